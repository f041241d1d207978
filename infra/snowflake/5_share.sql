-- Live predictions for other teams' accounts, without a copy. A share takes secure views only: each stands before
-- the live view of a model, and follows every publication. Run it once the model's first batch was published, and
-- again when its columns change: Snowflake keeps those that the view was made with, and refuses it with others.
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
