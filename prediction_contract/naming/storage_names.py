"""Names in S3 and DynamoDB: the data bucket with what lies in it, and the tables."""

from __future__ import annotations

import re

from prediction_contract.naming.deployment_scope import Place, require, require_model_name

_DEPLOYABLE = re.compile(r"[a-z][a-z0-9_]{0,30}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class StorageNames(Place):
    """Names in S3 and DynamoDB: the data bucket with what lies in it, and the tables."""

    __slots__ = ()

    @property
    def data_bucket(self) -> str:
        """The one bucket, in the home region; its name is unique over all accounts and regions."""
        return self._name(f"data-{self.account_id}-{self.home}")

    @property
    def data_bucket_arn(self) -> str:
        """The bucket's ARN, which names neither region nor account."""
        return f"arn:{self.partition}:s3:::{self.data_bucket}"

    @property
    def data_key_alias(self) -> str:
        """The alias of the KMS key that the bucket is encrypted with."""
        return f"alias/{self._name('data')}"

    @property
    def keys_arn_pattern(self) -> str:
        """What matches the ARN of every KMS key in this region: a key's id is KMS's own."""
        return self._arn("kms", "key/*")

    @property
    def logs_bucket(self) -> str:
        """The bucket of logs about the data bucket and the home region's network."""
        return self._name(f"logs-{self.account_id}-{self.home}")

    def model_prefix(self, model: str) -> str:
        """Return the key prefix of a model's trained artifacts, ending in a slash."""
        return f"models/{require_model_name(model)}/"

    @property
    def code_prefix(self) -> str:
        """The key prefix of all code that jobs run, ending in a slash."""
        return "code/"

    def code_archive_key(self, deployable: str, digest: str) -> str:
        """Return the key of a deployable's code archive, named by its content.

        Args:
            deployable: The package that it holds, say `glue_scripts`.
            digest: SHA-256 of its files, 64 lower-case hexadecimal digits.
        """
        require(_DEPLOYABLE, deployable, "deployable")
        return f"{self.code_prefix}{deployable}/{require(_DIGEST, digest, 'digest')}.zip"

    def code_tree_prefix(self, deployable: str, digest: str) -> str:
        """Return the key prefix of a deployable's code as single files, ending in a slash.

        Args:
            deployable: The package that it holds, say `sagemaker_scripts`.
            digest: SHA-256 of the same files.
        """
        require(_DEPLOYABLE, deployable, "deployable")
        return f"{self.code_prefix}{deployable}/{require(_DIGEST, digest, 'digest')}/"

    def training_code_key(self, digest: str) -> str:
        """Return the key of the `tar.gz` that a training job unpacks; not below the tree of the same code."""
        return f"{self.code_prefix}sagemaker_scripts/{require(_DIGEST, digest, 'digest')}.tar.gz"

    def glue_wheels_key(self, digest: str) -> str:
        """Return the key of the zip of wheels that Glue installs; Glue knows it by the end of its name.

        Args:
            digest: SHA-256 of what it is made from.
        """
        return f"{self.code_prefix}glue_wheels/{require(_DIGEST, digest, 'digest')}.gluewheels.zip"

    @property
    def load_script_key(self) -> str:
        """The key of the script that the Glue job starts; its package lies in the code archive."""
        return f"{self.code_prefix}glue_scripts/load_predictions.py"

    @property
    def registry_table(self) -> str:
        """The table that knows every batch, publication and live pointer."""
        return self._name("registry")

    @property
    def registry_table_arn(self) -> str:
        """The registry's ARN in this region."""
        return self._arn("dynamodb", f"table/{self.registry_table}")

    def online_table(self, model: str) -> str:
        """Return the name of a model's table of predictions."""
        return self._name(f"predictions-{require_model_name(model)}")

    def online_table_arn(self, model: str) -> str:
        """Return the ARN of a model's table of predictions in this region."""
        return self._arn("dynamodb", f"table/{self.online_table(model)}")

    @property
    def online_tables_prefix(self) -> str:
        """What the name of every model's online table begins with; the model's name follows."""
        return self._name("predictions-")

    @property
    def online_tables_arn_pattern(self) -> str:
        """What matches the ARN of every model's online table, so that a new model changes no policy."""
        return self._arn("dynamodb", f"table/{self.online_tables_prefix}*")

    @property
    def online_replicas_arn_pattern(self) -> str:
        """What matches the ARN of every model's online table in any region that serves."""
        return self._arn("dynamodb", f"table/{self.online_tables_prefix}*", region="*")
