
select cohort_month from `a-project`.`shop`.`customer_cohorts` where cohort_size > 0