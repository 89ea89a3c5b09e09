//! Tests that searches find every late commit, regardless of the order in which transactions get positions, commit and are
//! listed.

use proptest::prelude::*;

use super::late_commits::LateCommits;

#[derive(Debug, Clone)]
enum Step {
    Begin,
    /// One of the open transactions gets a position.
    Draw(usize),
    Commit(usize),
    RollBack(usize),
    /// The node claims all deliveries that it can see.
    Take,
}

/// A search reads the claimed position after the steps `before`, and lists the transactions after the steps `between`.
#[derive(Debug, Clone)]
struct Search {
    before: Vec<Step>,
    between: Vec<Step>,
    succeeds: bool,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Begin),
        3 => any::<usize>().prop_map(Step::Draw),
        2 => any::<usize>().prop_map(Step::Commit),
        1 => any::<usize>().prop_map(Step::RollBack),
        2 => Just(Step::Take),
    ]
}

fn search() -> impl Strategy<Value = Search> {
    let steps = |most| prop::collection::vec(step(), 0..most);
    (steps(12), steps(4), prop::bool::weighted(0.8)).prop_map(|(before, between, succeeds)| Search {
        before,
        between,
        succeeds,
    })
}

#[derive(Debug, Default)]
struct World {
    next_id: i64,
    next_position: i64,
    /// Transactions that are writing, with their positions.
    open: Vec<(i64, Vec<i64>)>,
    /// Positions committed since the last successful search.
    unsearched: Vec<i64>,
    committed: i64,
    taken: i64,
}

impl World {
    fn take(&mut self, step: &Step) {
        match *step {
            Step::Begin => {
                self.next_id += 1;
                self.open.push((self.next_id, Vec::new()));
            }
            Step::Draw(number) if !self.open.is_empty() => {
                let number = number % self.open.len();
                self.next_position += 1;
                self.open[number].1.push(self.next_position);
            }
            Step::Commit(number) if !self.open.is_empty() => {
                let (_, positions) = self.open.swap_remove(number % self.open.len());
                self.committed = positions.iter().copied().fold(self.committed, i64::max);
                self.unsearched.extend(positions);
            }
            Step::RollBack(number) if !self.open.is_empty() => {
                self.open.swap_remove(number % self.open.len());
            }
            Step::Draw(_) | Step::Commit(_) | Step::RollBack(_) => {}
            Step::Take => self.taken = self.committed,
        }
    }

    fn writing(&self) -> Vec<i64> {
        self.open.iter().map(|(id, _)| *id).collect()
    }
}

proptest! {
    #[test]
    fn a_search_starts_before_every_delivery_that_no_search_has_found(searches in prop::collection::vec(search(), 1..40)) {
        let (mut world, mut late) = (World::default(), LateCommits::default());
        for search in searches {
            for step in &search.before {
                world.take(step);
            }
            let taken = world.taken;
            for step in &search.between {
                world.take(step);
            }
            late.check(&world.writing(), taken);
            for position in &world.unsearched {
                prop_assert!(*position > late.search_after(), "{} is behind {}", position, late.search_after());
            }
            if search.succeeds {
                late.searched();
                world.unsearched.clear();
            }
        }
    }
}

#[test]
fn only_the_end_of_a_long_transaction_makes_a_search_start_far_back() {
    const LONG: i64 = 1;
    let mut late = LateCommits::default();
    let check = |late: &mut LateCommits, writing: &[i64], taken: i64| {
        late.check(writing, taken);
        let search_after = late.search_after();
        late.searched();
        search_after
    };
    check(&mut late, &[], 1_000);
    check(&mut late, &[LONG, 2], 2_000);
    // The other searches start at the previous check, to find transactions that begin and end between two checks.
    assert_eq!(check(&mut late, &[LONG], 50_000), 1_000, "the short transaction has ended");
    assert_eq!(check(&mut late, &[LONG, 3], 60_000), 50_000);
    assert_eq!(check(&mut late, &[], 70_000), 1_000, "the long transaction has ended");
    assert_eq!(check(&mut late, &[], 80_000), 70_000);
}
