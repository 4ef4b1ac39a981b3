

with  __dbt__cte__daily_revenue as (
select cast('2026-03-31' as date) as ordered_on
),  __dbt__cte__orders as (

-- Fixture for orders
select cast(null as bigint) as `order_id`, cast(null as bigint) as `customer_id`, cast('2026-02-28' as date)
 as `ordered_on`, cast(null as string) as `channel`, cast('completed' as string)
 as `order_status`, cast(null as decimal(16,2)) as `gross_amount`, cast(0 as decimal(16,2))
 as `discount_amount`, cast(0 as decimal(16,2))
 as `refunded_amount`, cast(10.0 as decimal(16,2))
 as `net_amount`, cast(null as boolean) as `is_paid`, cast(null as bigint) as `failed_payment_count`
union all
select cast(null as bigint) as `order_id`, cast(null as bigint) as `customer_id`, cast('2026-03-01' as date)
 as `ordered_on`, cast(null as string) as `channel`, cast('returned' as string)
 as `order_status`, cast(null as decimal(16,2)) as `gross_amount`, cast(5.0 as decimal(16,2))
 as `discount_amount`, cast(20.0 as decimal(16,2))
 as `refunded_amount`, cast(0 as decimal(16,2))
 as `net_amount`, cast(null as boolean) as `is_paid`, cast(null as bigint) as `failed_payment_count`
union all
select cast(null as bigint) as `order_id`, cast(null as bigint) as `customer_id`, cast('2026-03-01' as date)
 as `ordered_on`, cast(null as string) as `channel`, cast('completed' as string)
 as `order_status`, cast(null as decimal(16,2)) as `gross_amount`, cast(0 as decimal(16,2))
 as `discount_amount`, cast(0 as decimal(16,2))
 as `refunded_amount`, cast(30.5 as decimal(16,2))
 as `net_amount`, cast(null as boolean) as `is_paid`, cast(null as bigint) as `failed_payment_count`
union all
select cast(null as bigint) as `order_id`, cast(null as bigint) as `customer_id`, cast('2026-04-01' as date)
 as `ordered_on`, cast(null as string) as `channel`, cast('cancelled' as string)
 as `order_status`, cast(null as decimal(16,2)) as `gross_amount`, cast(0 as decimal(16,2))
 as `discount_amount`, cast(15.0 as decimal(16,2))
 as `refunded_amount`, cast(0 as decimal(16,2))
 as `net_amount`, cast(null as boolean) as `is_paid`, cast(null as bigint) as `failed_payment_count`
), orders as (

    select * from __dbt__cte__orders

    
    -- A refund lowers the revenue of the day of its order, so the days that a refund can still
    -- reach are computed again. They keep their row even if all of their orders are cancelled.
    where ordered_on >= (
        select
            coalesce(
                cast(
                    timestampadd(day, -30, max(ordered_on)) as date
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
        cast(sum(discount_amount) as decimal(16,2)) as discount_amount,
        cast(sum(refunded_amount) as decimal(16,2)) as refunded_amount,
        cast(sum(net_amount) as decimal(16,2)) as net_amount

    from orders
    group by ordered_on

)

select * from final