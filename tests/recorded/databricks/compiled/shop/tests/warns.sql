
select cohort_month from `hive_metastore`.`default`.`customer_cohorts` where cohort_size > 0