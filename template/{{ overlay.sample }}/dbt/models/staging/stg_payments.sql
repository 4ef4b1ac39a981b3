-- The seed payments_export replaces the tool that would load the source. Once a real tool loads
-- the table, delete the seed, its entry in seeds.yml and the next line.
-- depends_on: {{ ref('payments_export') }}

with source as (

    select * from {{ source('payment_provider', 'payments_export') }}

),

final as (

    select
        payment_id,
        order_id,
        payment_method,
        status as payment_status,
        amount_cents,
        cast(processed_on as date) as processed_on

    from source

)

select * from final
