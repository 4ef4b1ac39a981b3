with by_order as (

    select
        ordered_on,
        cast(sum(net_amount) as numeric(16,2)) as net_amount

    from "postgres"."public"."orders"
    group by ordered_on

),

by_day as (

    select
        ordered_on,
        net_amount

    from "postgres"."public"."daily_revenue"

)

select
    coalesce(by_order.ordered_on, by_day.ordered_on) as ordered_on,
    by_order.net_amount as order_amount,
    by_day.net_amount as day_amount

from by_order
full outer join by_day on by_order.ordered_on = by_day.ordered_on
where coalesce(by_order.net_amount, 0) <> coalesce(by_day.net_amount, 0)