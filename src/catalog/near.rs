//! "Did you mean": the known word that is spelled most like another.

/// Words longer than this are compared by their beginning.
const CHARS_MAX: usize = 64;

/// The candidate that was probably meant by `word`, if one is near enough.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let near = match lower.chars().count() {
        0..=3 => 1,
        _ => 2,
    };
    let rated = candidates.map(|it| (distance(&it.to_lowercase(), &lower), it));
    rated.filter(|it| it.0 <= near).min().map(|it| it.1)
}

/// How many letters two words differ in (Levenshtein's distance).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(CHARS_MAX).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (n, x) in a.chars().take(CHARS_MAX).enumerate() {
        let mut corner = n;
        row[0] = n + 1;
        for (m, y) in b.iter().enumerate() {
            let swap = corner + usize::from(x != *y);
            corner = row[m + 1];
            row[m + 1] = swap.min(corner + 1).min(row[m] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_near_is_offered() {
        let words = ["vlan", "subnet", "gateway", "dhcp", "mode"];
        let near = |word| nearest(word, words.into_iter());
        assert_eq!(near("vlna"), Some("vlan"));
        assert_eq!(near("Subnets"), Some("subnet"));
        assert_eq!(near("MODE"), Some("mode"));
        assert_eq!(near("abc"), None);
        assert_eq!(near("permit"), None);
    }
}
