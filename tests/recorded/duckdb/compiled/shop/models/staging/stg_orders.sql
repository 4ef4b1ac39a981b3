with source as (

    select * from "warehouse"."main"."raw_orders"

),

final as (

    select
        order_id,
        customer_id,
        cast(ordered_on as date) as ordered_on,
        channel,
        status as order_status,
        amount_cents

    from source

)

select * from final