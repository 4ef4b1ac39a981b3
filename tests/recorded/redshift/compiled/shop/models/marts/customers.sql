with customers as (

    select * from "postgres"."public"."stg_customers"

),

countries as (

    select * from "postgres"."public"."countries"

),

orders as (

    select * from "postgres"."public"."orders"

),

order_history as (

    select
        customer_id,
        count(*) as order_count,
        min(ordered_on) as first_ordered_on,
        max(ordered_on) as last_ordered_on,
        sum(net_amount) as lifetime_amount

    from orders
    where order_status <> 'cancelled'
    group by customer_id

),

final as (

    select
        customers.customer_id,
        customers.full_name,
        customers.email,
        customers.country_code,
        countries.country_name,
        countries.region,
        customers.loyalty_tier,
        customers.signed_up_on,
        order_history.first_ordered_on,
        order_history.last_ordered_on,
        datediff(
        day,
        customers.signed_up_on,
        order_history.first_ordered_on
        )
            as days_to_first_order,
        coalesce(order_history.order_count, 0) as order_count,
        cast(coalesce(order_history.lifetime_amount, 0) as numeric(16,2)) as lifetime_amount

    from customers
    left join countries on customers.country_code = countries.country_code
    left join order_history on customers.customer_id = order_history.customer_id

)

select * from final