

with  __dbt__cte__daily_revenue as (
select cast('2026-03-31' as date) as ordered_on
),  __dbt__cte__orders as (

-- Fixture for orders
select safe_cast(null as INT64) as `order_id`, safe_cast(null as INT64) as `customer_id`, safe_cast('''2026-02-28''' as DATE) as `ordered_on`, safe_cast(null as STRING) as `channel`, safe_cast('''completed''' as STRING) as `order_status`, safe_cast(null as NUMERIC) as `gross_amount`, safe_cast(0 as NUMERIC) as `discount_amount`, safe_cast(0 as NUMERIC) as `refunded_amount`, safe_cast(10.0 as NUMERIC) as `net_amount`, safe_cast(null as BOOLEAN) as `is_paid`, safe_cast(null as INT64) as `failed_payment_count`
union all
select safe_cast(null as INT64) as `order_id`, safe_cast(null as INT64) as `customer_id`, safe_cast('''2026-03-01''' as DATE) as `ordered_on`, safe_cast(null as STRING) as `channel`, safe_cast('''returned''' as STRING) as `order_status`, safe_cast(null as NUMERIC) as `gross_amount`, safe_cast(5.0 as NUMERIC) as `discount_amount`, safe_cast(20.0 as NUMERIC) as `refunded_amount`, safe_cast(0 as NUMERIC) as `net_amount`, safe_cast(null as BOOLEAN) as `is_paid`, safe_cast(null as INT64) as `failed_payment_count`
union all
select safe_cast(null as INT64) as `order_id`, safe_cast(null as INT64) as `customer_id`, safe_cast('''2026-03-01''' as DATE) as `ordered_on`, safe_cast(null as STRING) as `channel`, safe_cast('''completed''' as STRING) as `order_status`, safe_cast(null as NUMERIC) as `gross_amount`, safe_cast(0 as NUMERIC) as `discount_amount`, safe_cast(0 as NUMERIC) as `refunded_amount`, safe_cast(30.5 as NUMERIC) as `net_amount`, safe_cast(null as BOOLEAN) as `is_paid`, safe_cast(null as INT64) as `failed_payment_count`
union all
select safe_cast(null as INT64) as `order_id`, safe_cast(null as INT64) as `customer_id`, safe_cast('''2026-04-01''' as DATE) as `ordered_on`, safe_cast(null as STRING) as `channel`, safe_cast('''cancelled''' as STRING) as `order_status`, safe_cast(null as NUMERIC) as `gross_amount`, safe_cast(0 as NUMERIC) as `discount_amount`, safe_cast(15.0 as NUMERIC) as `refunded_amount`, safe_cast(0 as NUMERIC) as `net_amount`, safe_cast(null as BOOLEAN) as `is_paid`, safe_cast(null as INT64) as `failed_payment_count`
), orders as (

    select * from __dbt__cte__orders

    
    -- A refund lowers the revenue of the day of its order, so the days that a refund can still
    -- reach are computed again. They keep their row even if all of their orders are cancelled.
    where ordered_on >= (
        select
            coalesce(
                cast(
                    

        datetime_add(
            cast( max(ordered_on) as datetime),
        interval -30 day
        )

 as date
                ),
                cast('1900-01-01' as date)
            )
        from __dbt__cte__daily_revenue
    )
    

),

final as (

    select
        ordered_on,
        count(*) as order_count,
        count(case when order_status = 'cancelled' then 1 end) as cancelled_order_count,
        cast(sum(discount_amount) as numeric) as discount_amount,
        cast(sum(refunded_amount) as numeric) as refunded_amount,
        cast(sum(net_amount) as numeric) as net_amount

    from orders
    group by ordered_on

)

select * from final