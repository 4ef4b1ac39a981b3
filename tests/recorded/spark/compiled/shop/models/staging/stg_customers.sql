with source as (

    select * from default.raw_customers

),

final as (

    select
        customer_id,
        concat(first_name, ' ', last_name) as full_name,
        lower(email) as email,
        country_code,
        loyalty_tier,
        cast(signed_up_on as date) as signed_up_on

    from source

)

select * from final