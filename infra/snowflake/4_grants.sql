-- The loader creates tables, views and the stage; readers see the views of live batches.
USE ROLE SYSADMIN;
GRANT USAGE ON DATABASE <% database %> TO ROLE <% role %>;
GRANT USAGE, CREATE TABLE, CREATE VIEW, CREATE STAGE ON SCHEMA <% database %>.<% schema %> TO ROLE <% role %>;
GRANT USAGE, OPERATE ON WAREHOUSE <% warehouse %> TO ROLE <% role %>;
GRANT USAGE ON DATABASE <% database %> TO ROLE <% reader_role %>;
GRANT USAGE ON SCHEMA <% database %>.<% schema %> TO ROLE <% reader_role %>;
GRANT SELECT ON FUTURE VIEWS IN SCHEMA <% database %>.<% schema %> TO ROLE <% reader_role %>;
GRANT SELECT ON ALL VIEWS IN SCHEMA <% database %>.<% schema %> TO ROLE <% reader_role %>;
