select
    order_id,
    order_status,
    gross_amount,
    net_amount,
    discount_amount

from `hive_metastore`.`default`.`orders`
where
    order_status in ('shipped', 'completed')
    and not is_paid