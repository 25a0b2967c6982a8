//! The job as it is often written: every step makes something new, and throws it away.

/// Where the functions are that waste memory.
pub const PATH: &str = "greenprof_demos::churn::wasteful";

/// Goes over the lines so often, and adds up the hashes of their keys.
pub fn keys(lines: &[String], passes: usize) -> u64 {
    let mut sum = 0_u64;
    for _ in 0..passes {
        for line in lines {
            sum = sum.wrapping_add(super::thrifty::hash(&key(line)));
        }
    }
    sum
}

/// The key of a line: its fields in capitals, with their numbers.
#[inline(never)]
fn key(line: &str) -> String {
    let mut key = String::new();
    for (number, field) in fields(line).iter().enumerate() {
        // A new string for each step, which holds everything so far.
        key = format!("{key}{number}={field};");
    }
    key
}

/// The fields, each a string of its own, in a list that grows.
#[inline(never)]
fn fields(line: &str) -> Vec<String> {
    let mut fields = Vec::new();
    for field in line.split(' ') {
        fields.push(field.to_owned().to_ascii_uppercase());
    }
    fields
}
