-- Access to the data bucket. The AWS role trusts nobody until STORAGE_AWS_IAM_USER_ARN and STORAGE_AWS_EXTERNAL_ID
-- of DESC INTEGRATION are in stages.yaml (snowflake.user_arn, snowflake.external_id) and the stack data is deployed.
USE ROLE ACCOUNTADMIN;
CREATE STORAGE INTEGRATION IF NOT EXISTS <% integration %>
  TYPE = EXTERNAL_STAGE STORAGE_PROVIDER = S3 ENABLED = TRUE
  STORAGE_AWS_ROLE_ARN = '<% access_role_arn %>'
  STORAGE_ALLOWED_LOCATIONS = ('<% allowed_location %>');
DESC INTEGRATION <% integration %>;
GRANT USAGE ON INTEGRATION <% integration %> TO ROLE <% role %>;
