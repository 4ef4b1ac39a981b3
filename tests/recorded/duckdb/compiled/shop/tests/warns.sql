
select cohort_month from "warehouse"."main"."customer_cohorts" where cohort_size > 0