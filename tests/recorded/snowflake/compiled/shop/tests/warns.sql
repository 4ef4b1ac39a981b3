
select cohort_month from ANALYTICS.PUBLIC.customer_cohorts where cohort_size > 0