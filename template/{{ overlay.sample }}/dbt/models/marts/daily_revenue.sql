{{
    config(
        materialized='incremental',
        unique_key='ordered_on',
        incremental_strategy=incremental_strategy(),
        partition_by=day_partition('ordered_on'),
    )
}}

with orders as (

    select * from {{ ref('orders') }}

    {% if is_incremental() %}
    -- A refund lowers the revenue of the day of its order, so this computes all days again that
    -- a refund can still affect. A day keeps its row even if all of its orders are cancelled.
    where ordered_on >= (
        select
            coalesce(
                cast(
                    {{ dbt.dateadd('day', -var('refund_window_days'), 'max(ordered_on)') }} as date
                ),
                cast('1900-01-01' as date)
            )
        from {{ this }}
    )
    {% endif %}

),

final as (

    select
        ordered_on,
        count(*) as order_count,
        count(case when order_status = 'cancelled' then 1 end) as cancelled_order_count,
        {{ amount('sum(discount_amount)') }} as discount_amount,
        {{ amount('sum(refunded_amount)') }} as refunded_amount,
        {{ amount('sum(net_amount)') }} as net_amount

    from orders
    group by ordered_on

)

select * from final
