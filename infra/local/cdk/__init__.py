"""The CDK app as a stage of its own on the emulator."""

STAGE = "cdk"
ACCOUNT_ID = "000000000000"
REGION = "us-east-1"
DOMAIN = "example.com"
