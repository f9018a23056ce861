"""The record of a study: Optuna's storage, what is kept in it, and documents made of it."""
