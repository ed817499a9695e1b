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
mod table;
mod table_attention;
mod table_control;
mod table_windows;
mod windows;
