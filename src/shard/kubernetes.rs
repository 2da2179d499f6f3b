//! Leases in Kubernetes.
