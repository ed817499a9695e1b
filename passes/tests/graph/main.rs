//! Graph passes, derivatives and batching, checked against the evaluator.

mod batching;
mod calls;
mod chains;
mod derivatives;
mod errors;
mod nested;
mod passes;
mod reverse_rules;
mod rule_examples;
mod rules;
mod support;
#[path = "../../../tests/table/mod.rs"]
mod table;
mod windows;
