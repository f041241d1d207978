-- Live predictions for other teams' accounts, without a copy. A share accepts only secure views, so each model has
-- one on top of its live view. It follows every publication. Run this after the model's first publication, and again
-- when its columns change: Snowflake refuses a view whose table has other columns than at the view's creation.
USE ROLE ACCOUNTADMIN;
CREATE SCHEMA IF NOT EXISTS <% database %>.SHARED;
CREATE SHARE IF NOT EXISTS <% share %> COMMENT = 'Live predictions';
GRANT USAGE ON DATABASE <% database %> TO SHARE <% share %>;
GRANT USAGE ON SCHEMA <% database %>.SHARED TO SHARE <% share %>;
-- for each model
CREATE OR REPLACE SECURE VIEW <% database %>.SHARED.<% live_view %> COPY GRANTS AS
  SELECT * FROM <% database %>.<% schema %>.<% live_view %>;
GRANT SELECT ON VIEW <% database %>.SHARED.<% live_view %> TO SHARE <% share %>;
-- end
-- Then, for each consumer: ALTER SHARE <% share %> ADD ACCOUNTS = <organisation>.<account>;
