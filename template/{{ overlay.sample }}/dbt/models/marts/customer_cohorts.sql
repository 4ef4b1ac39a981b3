with orders as (

    select
        customer_id,
        cast({{ dbt.date_trunc('month', 'ordered_on') }} as date) as order_month,
        net_amount

    from {{ ref('orders') }}
    where order_status <> 'cancelled'

),

first_orders as (

    select
        customer_id,
        min(order_month) as cohort_month

    from orders
    group by customer_id

),

cohorts as (

    select
        cohort_month,
        count(*) as cohort_size

    from first_orders
    group by cohort_month

),

-- Both dates are the first of a month, because engines count months between other days differently.
activity as (

    select
        first_orders.cohort_month,
        cast(
            {{ dbt.datediff('first_orders.cohort_month', 'orders.order_month', 'month') }}
            as {{ dbt.type_int() }}
        ) as months_since_first_order,
        orders.customer_id,
        orders.net_amount

    from orders
    inner join first_orders on orders.customer_id = first_orders.customer_id

),

monthly as (

    select
        cohort_month,
        months_since_first_order,
        count(distinct customer_id) as active_customer_count,
        {{ amount('sum(net_amount)') }} as net_amount

    from activity
    group by cohort_month, months_since_first_order

),

final as (

    select
        monthly.cohort_month,
        monthly.months_since_first_order,
        cohorts.cohort_size,
        monthly.active_customer_count,
        cast(
            1.0 * monthly.active_customer_count / cohorts.cohort_size as {{ decimal_type(5, 4) }}
        ) as retention_rate,
        monthly.net_amount

    from monthly
    inner join cohorts on monthly.cohort_month = cohorts.cohort_month

)

select * from final
