//! The proxy plane: TCP and HTTP in user space.
