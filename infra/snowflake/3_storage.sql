-- The way from the data bucket. The role trusts nobody until DESC INTEGRATION's two values stand in
-- infra/settings.py (STORAGE_AWS_IAM_USER_ARN, STORAGE_AWS_EXTERNAL_ID) and the stack Data is deployed again.
USE ROLE ACCOUNTADMIN;
CREATE STORAGE INTEGRATION IF NOT EXISTS <% integration %>
  TYPE = EXTERNAL_STAGE STORAGE_PROVIDER = S3 ENABLED = TRUE
  STORAGE_AWS_ROLE_ARN = '<% access_role_arn %>'
  STORAGE_ALLOWED_LOCATIONS = ('<% allowed_location %>');
DESC INTEGRATION <% integration %>;
GRANT USAGE ON INTEGRATION <% integration %> TO ROLE <% role %>;
