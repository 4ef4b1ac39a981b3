
select cohort_month from default.customer_cohorts where cohort_size > 0