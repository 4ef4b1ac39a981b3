-- The seed payments_export stands in for the tool that loads the source. Once a real one lands
-- the table, delete the seed, its entry in seeds.yml and the next line.
-- depends_on: `a-project`.`shop`.`payments_export`

with source as (

    select * from `a-project`.`shop`.`payments_export`

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