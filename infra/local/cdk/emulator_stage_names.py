"""The names of the stage that the CDK app is deployed as on the emulator."""

STAGE = "cdk"
ACCOUNT_ID = "000000000000"
REGION = "us-east-1"
DOMAIN = "example.com"
