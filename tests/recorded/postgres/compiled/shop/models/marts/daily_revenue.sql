

with orders as (

    select * from "postgres"."public"."orders"

    

),

final as (

    select
        ordered_on,
        count(*) as order_count,
        count(case when order_status = 'cancelled' then 1 end) as cancelled_order_count,
        cast(sum(discount_amount) as numeric(16,2)) as discount_amount,
        cast(sum(refunded_amount) as numeric(16,2)) as refunded_amount,
        cast(sum(net_amount) as numeric(16,2)) as net_amount

    from orders
    group by ordered_on

)

select * from final