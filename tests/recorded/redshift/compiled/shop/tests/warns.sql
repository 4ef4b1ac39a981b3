
select cohort_month from "postgres"."public"."customer_cohorts" where cohort_size > 0