with payments as (

    select * from {{ ref('stg_payments') }}

),

-- A coupon settles an order but brings in no money, so it is not part of the paid amount.
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
