//! The desired state: gateway document, component specs, problem reports.
