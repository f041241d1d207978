-- Database, schema and the virtual warehouse of loads. The loader role creates tables and views itself.
USE ROLE SYSADMIN;
CREATE DATABASE IF NOT EXISTS <% database %>;
-- Time Travel. More than 1 day needs the Enterprise edition.
ALTER DATABASE <% database %> SET DATA_RETENTION_TIME_IN_DAYS = <% retention_days %>;
CREATE SCHEMA IF NOT EXISTS <% database %>.<% schema %> WITH MANAGED ACCESS;
CREATE WAREHOUSE IF NOT EXISTS <% warehouse %>
  WAREHOUSE_SIZE = XSMALL AUTO_SUSPEND = 60 AUTO_RESUME = TRUE INITIALLY_SUSPENDED = TRUE
  STATEMENT_TIMEOUT_IN_SECONDS = 3600;
