-- Two roles: programs log in with the loader role, and people get the reader role through their own roles.
-- Needs SECURITYADMIN and SYSADMIN; safe to run again.
USE ROLE SECURITYADMIN;
CREATE ROLE IF NOT EXISTS <% role %> COMMENT = 'Loads and publishes predictions';
CREATE ROLE IF NOT EXISTS <% reader_role %> COMMENT = 'Reads live predictions';
GRANT ROLE <% role %> TO ROLE SYSADMIN;
GRANT ROLE <% reader_role %> TO ROLE SYSADMIN;
-- A service user has no password. Add a key pair (load job) and a programmatic access token (Dagster).
CREATE USER IF NOT EXISTS <% user %> TYPE = SERVICE DEFAULT_ROLE = <% role %> DEFAULT_WAREHOUSE = <% warehouse %>;
GRANT ROLE <% role %> TO USER <% user %>;
