"""The CDK app, deployed to the emulator as a separate stage."""

STAGE = "cdk"
ACCOUNT_ID = "000000000000"
REGION = "us-east-1"
DOMAIN = "example.com"
