"""Equipment of the demo and the end-to-end tests: a cluster, images, a KMS, scans."""
