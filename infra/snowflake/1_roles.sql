-- Who works in the database: a loader that programs log in as, and a reader that other roles are given.
-- Run as SECURITYADMIN and SYSADMIN; safe to run again.
USE ROLE SECURITYADMIN;
CREATE ROLE IF NOT EXISTS <% role %> COMMENT = 'Loads and publishes predictions';
CREATE ROLE IF NOT EXISTS <% reader_role %> COMMENT = 'Reads live predictions';
GRANT ROLE <% role %> TO ROLE SYSADMIN;
GRANT ROLE <% reader_role %> TO ROLE SYSADMIN;
-- A service user has no password; give it a key pair (load job) and a programmatic access token (Dagster).
CREATE USER IF NOT EXISTS <% user %> TYPE = SERVICE DEFAULT_ROLE = <% role %> DEFAULT_WAREHOUSE = <% warehouse %>;
GRANT ROLE <% role %> TO USER <% user %>;
