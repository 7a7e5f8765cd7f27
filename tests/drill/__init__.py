"""The deployment drill: jobs flow while their pool is restarted, deployed, killed and without a database."""
