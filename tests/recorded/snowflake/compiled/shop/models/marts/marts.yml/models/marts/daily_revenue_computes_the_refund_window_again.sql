

with  __dbt__cte__daily_revenue as (
select cast('2026-03-31' as date) as ordered_on
),  __dbt__cte__orders as (

-- Fixture for orders
select try_cast(null as NUMBER(38,0)) as "ORDER_ID", try_cast(null as NUMBER(38,0)) as "CUSTOMER_ID", 
    
        try_cast('2026-02-28' as DATE)
     as "ORDERED_ON", try_cast(null as character varying(16777216)) as "CHANNEL", 
    
        try_cast('completed' as character varying)
     as "ORDER_STATUS", try_cast(null as NUMBER(16,2)) as "GROSS_AMOUNT", 
    
        try_cast('0' as NUMBER(16,2))
     as "DISCOUNT_AMOUNT", 
    
        try_cast('0' as NUMBER(16,2))
     as "REFUNDED_AMOUNT", 
    
        try_cast('10.0' as NUMBER(16,2))
     as "NET_AMOUNT", try_cast(null as BOOLEAN) as "IS_PAID", try_cast(null as NUMBER(38,0)) as "FAILED_PAYMENT_COUNT"
union all
select try_cast(null as NUMBER(38,0)) as "ORDER_ID", try_cast(null as NUMBER(38,0)) as "CUSTOMER_ID", 
    
        try_cast('2026-03-01' as DATE)
     as "ORDERED_ON", try_cast(null as character varying(16777216)) as "CHANNEL", 
    
        try_cast('returned' as character varying)
     as "ORDER_STATUS", try_cast(null as NUMBER(16,2)) as "GROSS_AMOUNT", 
    
        try_cast('5.0' as NUMBER(16,2))
     as "DISCOUNT_AMOUNT", 
    
        try_cast('20.0' as NUMBER(16,2))
     as "REFUNDED_AMOUNT", 
    
        try_cast('0' as NUMBER(16,2))
     as "NET_AMOUNT", try_cast(null as BOOLEAN) as "IS_PAID", try_cast(null as NUMBER(38,0)) as "FAILED_PAYMENT_COUNT"
union all
select try_cast(null as NUMBER(38,0)) as "ORDER_ID", try_cast(null as NUMBER(38,0)) as "CUSTOMER_ID", 
    
        try_cast('2026-03-01' as DATE)
     as "ORDERED_ON", try_cast(null as character varying(16777216)) as "CHANNEL", 
    
        try_cast('completed' as character varying)
     as "ORDER_STATUS", try_cast(null as NUMBER(16,2)) as "GROSS_AMOUNT", 
    
        try_cast('0' as NUMBER(16,2))
     as "DISCOUNT_AMOUNT", 
    
        try_cast('0' as NUMBER(16,2))
     as "REFUNDED_AMOUNT", 
    
        try_cast('30.5' as NUMBER(16,2))
     as "NET_AMOUNT", try_cast(null as BOOLEAN) as "IS_PAID", try_cast(null as NUMBER(38,0)) as "FAILED_PAYMENT_COUNT"
union all
select try_cast(null as NUMBER(38,0)) as "ORDER_ID", try_cast(null as NUMBER(38,0)) as "CUSTOMER_ID", 
    
        try_cast('2026-04-01' as DATE)
     as "ORDERED_ON", try_cast(null as character varying(16777216)) as "CHANNEL", 
    
        try_cast('cancelled' as character varying)
     as "ORDER_STATUS", try_cast(null as NUMBER(16,2)) as "GROSS_AMOUNT", 
    
        try_cast('0' as NUMBER(16,2))
     as "DISCOUNT_AMOUNT", 
    
        try_cast('15.0' as NUMBER(16,2))
     as "REFUNDED_AMOUNT", 
    
        try_cast('0' as NUMBER(16,2))
     as "NET_AMOUNT", try_cast(null as BOOLEAN) as "IS_PAID", try_cast(null as NUMBER(38,0)) as "FAILED_PAYMENT_COUNT"
), orders as (

    select * from __dbt__cte__orders

    
    -- A refund lowers the revenue of the day of its order, so the days that a refund can still
    -- reach are computed again. They keep their row even if all of their orders are cancelled.
    where ordered_on >= (
        select
            coalesce(
                cast(
                    

    dateadd(
        day,
        -30,
        max(ordered_on)
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
        cast(sum(discount_amount) as numeric(16,2)) as discount_amount,
        cast(sum(refunded_amount) as numeric(16,2)) as refunded_amount,
        cast(sum(net_amount) as numeric(16,2)) as net_amount

    from orders
    group by ordered_on

)

select * from final