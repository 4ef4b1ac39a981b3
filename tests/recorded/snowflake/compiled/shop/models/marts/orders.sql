with  __dbt__cte__int_order_payments as (
with payments as (

    select * from ANALYTICS.PUBLIC.stg_payments

),

-- A coupon settles an order but brings no money, so it is kept apart from what was paid.
final as (

    select
        order_id,
        sum(
            case
                when payment_status = 'captured' and payment_method <> 'coupon' then amount_cents
                else 0
            end
        ) as paid_cents,
        sum(
            case
                when payment_status = 'captured' and payment_method = 'coupon' then amount_cents
                else 0
            end
        ) as discount_cents,
        sum(case when payment_status = 'refunded' then amount_cents else 0 end) as refunded_cents,
        count(case when payment_status = 'failed' then 1 end) as failed_payment_count

    from payments
    group by order_id

)

select * from final
), orders as (

    select * from ANALYTICS.PUBLIC.stg_orders

),

payments as (

    select * from __dbt__cte__int_order_payments

),

-- An order without any payment counts as zero, not as unknown.
joined as (

    select
        orders.order_id,
        orders.customer_id,
        orders.ordered_on,
        orders.channel,
        orders.order_status,
        orders.amount_cents,
        coalesce(payments.paid_cents, 0) as paid_cents,
        coalesce(payments.discount_cents, 0) as discount_cents,
        coalesce(payments.refunded_cents, 0) as refunded_cents,
        coalesce(payments.failed_payment_count, 0) as failed_payment_count

    from orders
    left join payments on orders.order_id = payments.order_id

),

final as (

    select
        order_id,
        customer_id,
        ordered_on,
        channel,
        order_status,
        cast((amount_cents) / 100.0 as numeric(16,2)) as gross_amount,
        cast((discount_cents) / 100.0 as numeric(16,2)) as discount_amount,
        cast((refunded_cents) / 100.0 as numeric(16,2)) as refunded_amount,
        cast((paid_cents - refunded_cents) / 100.0 as numeric(16,2)) as net_amount,
        paid_cents + discount_cents >= amount_cents as is_paid,
        failed_payment_count

    from joined

)

select * from final