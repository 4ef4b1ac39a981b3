with orders as (

    select * from {{ ref('stg_orders') }}

),

payments as (

    select * from {{ ref('int_order_payments') }}

),

-- The amounts of an order without payments are zero, not unknown.
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
        {{ cents_to_amount('amount_cents') }} as gross_amount,
        {{ cents_to_amount('discount_cents') }} as discount_amount,
        {{ cents_to_amount('refunded_cents') }} as refunded_amount,
        {{ cents_to_amount('paid_cents - refunded_cents') }} as net_amount,
        paid_cents + discount_cents >= amount_cents as is_paid,
        failed_payment_count

    from joined

)

select * from final
