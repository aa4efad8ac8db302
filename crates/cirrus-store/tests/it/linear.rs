//! Is a recorded history linearizable?
//!
//! Just-in-time linearization as in G. Lowe, "Testing for linearizability" (Concurrency and
//! Computation 29(4), 2017), after J. M. Wing and C. Gong, "Testing and verifying concurrent
//! objects" (JPDC 17, 1993): a set of configurations (a state, and which open operations have
//! happened in it) goes through the events of a history; an operation is made to happen only when
//! an answer needs it, and configurations that were met before are not met again. Linearizability
//! is local (Herlihy and Wing, 1990), so each key is checked by itself. The first answer that
//! leaves no configuration ends the shortest prefix that is not linearizable.
//!
//! An operation with an unknown answer may happen at any time after it began, or never; one that has
//! an end as well has happened by then, or never will.
//!
//! Two cuts keep the sets small. An operation that only reads happens as soon as its answer is true. Of
//! configurations of equal state, one is dropped in which only more operations with unknown answers
//! have happened: the other can do all that it can.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::{self, Write as _};

use crate::model::{Action, Answer, Operation, State};

/// Operations of one key that may be open at once, those with unknown answers included.
const OPEN_MAX: usize = 128;

/// Configurations beyond which a history is given up, loudly.
const CONFIGURATIONS_MAX: usize = 300_000;

/// Lines of a failing prefix that are printed, from its end.
const LINES_MAX: usize = 40;

/// A prefix of a history that no order of its operations explains.
pub(crate) struct Violation {
    key: String,
    /// The operations that began in the prefix, in the order of their beginnings.
    prefix: Vec<Operation>,
    /// The one whose answer cannot be.
    last: Operation,
    /// What could be there before it.
    states: Vec<State>,
}

impl Violation {
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Operations on this key up to the impossible answer.
    pub(crate) fn operations(&self) -> usize {
        self.prefix.len()
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, len) = (&self.key, self.prefix.len());
        writeln!(f, "the history of {key:?} is not linearizable: {len} operations lead to")?;
        let skipped = len.saturating_sub(LINES_MAX);
        if skipped > 0 {
            writeln!(f, "  ({skipped} earlier ones)")?;
        }
        for operation in &self.prefix[skipped..] {
            let mark = if *operation == self.last { '>' } else { ' ' };
            writeln!(f, "{mark} {operation}")?;
        }
        let mut states = String::new();
        for state in self.states.iter().take(5) {
            write!(states, "\n    {state}")?;
        }
        write!(f, "No order explains the marked answer. Before it there could be:{states}")
    }
}

impl fmt::Debug for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Checks every key; of several violations the one with the shortest prefix is returned. A restart
/// concerns all keys.
pub(crate) fn check(history: &[Operation]) -> Result<(), Box<Violation>> {
    let mut keys: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in history.iter().filter(|operation| operation.action != Action::Restart) {
        keys.entry(&operation.key).or_default().push(operation);
    }
    let restarts = history.iter().filter(|operation| operation.action == Action::Restart);
    let restarts: Vec<&Operation> = restarts.collect();
    let violations = keys.into_iter().filter_map(|(key, mut operations)| {
        operations.extend(&restarts);
        Checker::of(operations).check(key).err()
    });
    violations.min_by_key(|violation| violation.prefix.len()).map_or(Ok(()), Err)
}

/// A state, and a bit for each open operation that has happened in it.
type Configuration = (State, u128);

struct Checker<'a> {
    operations: Vec<&'a Operation>,
    /// The open operations by their bits.
    open: [Option<&'a Operation>; OPEN_MAX],
    configurations: HashSet<Configuration>,
}

impl<'a> Checker<'a> {
    fn of(mut operations: Vec<&'a Operation>) -> Self {
        operations.sort_unstable_by_key(|operation| operation.began);
        let configurations = HashSet::from([(State::default(), 0)]);
        Self { operations, open: [None; OPEN_MAX], configurations }
    }

    fn check(mut self, key: &str) -> Result<(), Box<Violation>> {
        let mut events: Vec<(u64, usize, bool)> = Vec::new();
        for (number, operation) in self.operations.iter().enumerate() {
            events.push((operation.began, number, false));
            events.extend(operation.ended.map(|ended| (ended, number, true)));
        }
        events.sort_unstable();
        let mut bits: HashMap<usize, usize> = HashMap::new();
        for (at, number, is_end) in events {
            let operation = self.operations[number];
            if !is_end {
                let free = self.open.iter().position(Option::is_none);
                let bit = free.expect("more open operations than the checker can tell apart");
                self.open[bit] = Some(operation);
                bits.insert(number, bit);
                continue;
            }
            let bit = bits[&number];
            let before = std::mem::take(&mut self.configurations);
            self.configurations = self.closed_over(&before, bit);
            if operation.answer == Answer::Unknown {
                // Or it never happened.
                let without = before.iter().filter(|(_, happened)| happened & (1 << bit) == 0);
                self.configurations.extend(without.cloned());
            }
            self.open[bit] = None;
            if self.configurations.is_empty() {
                let began = self.operations.iter().filter(|other| other.began < at);
                return Err(Box::new(Violation {
                    key: key.to_owned(),
                    prefix: began.map(|other| (*other).clone()).collect(),
                    last: operation.clone(),
                    states: before.into_iter().map(|(state, _)| state).collect(),
                }));
            }
        }
        Ok(())
    }

    /// Every configuration that the ones `before` can become by letting open operations happen,
    /// the one of `target` the last of them. Its bit is clear in the result.
    fn closed_over(
        &self,
        before: &HashSet<Configuration>,
        target: usize,
    ) -> HashSet<Configuration> {
        let operation = self.open[target].expect("an operation ends after it began");
        let mut reached = HashSet::new();
        let mut met = HashSet::new();
        let mut next: Vec<Configuration> = before.iter().cloned().collect();
        while let Some((state, happened)) = next.pop() {
            let happened = self.with_idle(&state, happened);
            if !met.insert((state.clone(), happened)) {
                continue;
            }
            assert!(met.len() < CONFIGURATIONS_MAX, "a history with too many possible orders");
            if happened & (1 << target) != 0 {
                reached.insert((state, happened & !(1 << target)));
                continue;
            }
            let after = state.after(operation);
            reached.extend(after.into_iter().map(|state| (state, happened)));
            for (bit, other) in self.others(happened) {
                if bit != target {
                    let after = state.after(other);
                    next.extend(after.into_iter().map(|state| (state, happened | (1 << bit))));
                }
            }
        }
        self.without_dominated(reached)
    }

    /// Lets every open operation happen that is true here and nowhere changes anything.
    fn with_idle(&self, state: &State, mut happened: u128) -> u128 {
        for (bit, other) in self.others(happened) {
            if other.is_reading() && state.after(other) == [state.clone()] {
                happened |= 1 << bit;
            }
        }
        happened
    }

    fn others(&self, happened: u128) -> impl Iterator<Item = (usize, &'a Operation)> {
        let open = self.open.iter().enumerate();
        open.filter_map(move |(bit, operation)| Some((bit, (*operation)?)))
            .filter(move |(bit, _)| happened & (1 << bit) == 0)
    }

    fn without_dominated(&self, reached: HashSet<Configuration>) -> HashSet<Configuration> {
        let unknown = self.open.iter().enumerate().filter(|(_, operation)| {
            operation.is_some_and(|operation| operation.answer == Answer::Unknown)
        });
        let unknown = unknown.fold(0_u128, |bits, (bit, _)| bits | (1 << bit));
        let mut alike: HashMap<(State, u128), Vec<u128>> = HashMap::new();
        for (state, happened) in reached {
            let least = alike.entry((state, happened & !unknown)).or_default();
            let doubtful = happened & unknown;
            if least.iter().all(|other| other & !doubtful != 0) {
                least.retain(|other| doubtful & !other != 0);
                least.push(doubtful);
            }
        }
        let each = alike.into_iter().flat_map(|((state, certain), least)| {
            least.into_iter().map(move |doubtful| (state.clone(), certain | doubtful))
        });
        each.collect()
    }
}

mod tests {
    use super::*;
    use crate::model::NEVER;
    use crate::rig::Random;
    use cirrus_store::{Condition, Version};

    fn operation(
        client: u64,
        (began, ended): (u64, Option<u64>),
        action: Action,
        answer: Answer,
    ) -> Operation {
        let ended_ms = ended.unwrap_or(u64::MAX);
        let key = "k".to_owned();
        Operation { client, key, action, answer, began, ended, began_ms: began, ended_ms }
    }

    fn put(value: i64) -> Action {
        Action::Put { value, condition: Condition::Always, expires_at: NEVER }
    }

    fn value(value: i64, version: u64) -> Answer {
        Answer::Value { value, version, expires_at: NEVER }
    }

    const fn written(version: u64) -> Answer {
        Answer::Written { version }
    }

    #[test]
    fn a_get_may_see_a_put_that_is_under_way_but_never_forget_it() {
        let put = operation(1, (0, Some(10)), put(7), written(4));
        let early = operation(2, (1, Some(2)), Action::Get, value(7, 4));
        let late = operation(3, (3, Some(4)), Action::Get, Answer::NotFound);
        let before = operation(3, (0, Some(4)), Action::Get, Answer::NotFound);
        check(&[put.clone(), early.clone()]).unwrap();
        check(&[put.clone(), early.clone(), before]).unwrap();
        let violation = check(&[put, early, late.clone()]).unwrap_err();
        assert_eq!((violation.operations(), &violation.last), (3, &late));
        let text = violation.to_string();
        assert!(text.contains("> [    3     4]  client 3   get  ->  NotFound"), "{text}");
        assert!(text.contains("value 7, version 4"), "{text}");
    }

    #[test]
    fn an_unknown_write_may_happen_late_or_never_but_not_twice() {
        let add =
            |began, delta| operation(1, (began, None), Action::Add { delta }, Answer::Unknown);
        let sum = |began, sum| {
            operation(2, (began, Some(began + 1)), Action::Add { delta: 0 }, Answer::Sum(sum))
        };
        check(&[add(0, 5), sum(1, 0), sum(3, 5), sum(5, 5)]).unwrap();
        check(&[add(0, 5), sum(1, 0), sum(3, 0)]).unwrap();
        assert!(check(&[add(0, 5), sum(1, 5), sum(3, 10)]).is_err());
        assert!(check(&[add(0, 5), sum(1, 5), sum(3, 0)]).is_err());
        assert!(check(&[sum(1, 5), add(2, 5)]).is_err(), "before it was asked for");
        let ended = Operation { ended: Some(2), ..add(0, 5) };
        check(&[ended.clone(), sum(3, 5), sum(5, 5)]).unwrap();
        check(&[ended.clone(), sum(3, 0), sum(5, 0)]).unwrap();
        assert!(check(&[ended, sum(3, 0), sum(5, 5)]).is_err(), "after its end");
    }

    #[test]
    fn versions_grow_and_conditions_are_true() {
        let first = operation(1, (0, Some(1)), put(7), written(4));
        let if_version = |version| Action::Put {
            value: 8,
            condition: Condition::IfVersion(Version(version)),
            expires_at: NEVER,
        };
        let then = |action, answer| {
            check(&[first.clone(), operation(1, (2, Some(3)), action, answer)]).is_ok()
        };
        assert!(then(if_version(4), written(5)));
        assert!(!then(if_version(3), written(5)));
        assert!(!then(if_version(4), written(4)));
        assert!(then(if_version(3), Answer::WrongVersion(4)));
        assert!(!then(if_version(4), Answer::WrongVersion(4)));
        assert!(!then(if_version(3), Answer::WrongVersion(0)));
        assert!(!then(put(8), written(3)));
        assert!(!then(Action::Get, value(7, 5)));
        let absent = |answer| {
            let (condition, expires_at) = (Condition::IfAbsent, NEVER);
            then(Action::Put { value: 8, condition, expires_at }, answer)
        };
        assert!(absent(Answer::WrongVersion(4)) && !absent(written(5)));
    }

    #[test]
    fn objects_end_at_their_time_and_restarts_forget() {
        let brief = Action::Put { value: 7, condition: Condition::Always, expires_at: 100 };
        let brief = operation(1, (0, Some(1)), brief, written(4));
        let get = |began, ended, answer| operation(2, (began, Some(ended)), Action::Get, answer);
        let lives = Answer::Value { value: 7, version: 4, expires_at: 100 };
        check(&[brief.clone(), get(50, 51, lives), get(90, 110, lives)]).unwrap();
        check(&[brief.clone(), get(90, 110, Answer::NotFound)]).unwrap();
        assert!(check(&[brief.clone(), get(50, 51, Answer::NotFound)]).is_err());
        assert!(check(&[brief.clone(), get(150, 151, lives)]).is_err());
        let gone = get(90, 110, Answer::NotFound);
        assert!(check(&[brief.clone(), gone.clone(), get(111, 112, lives)]).is_err());
        let mut restart = operation(9, (10, Some(12)), Action::Restart, Answer::Done);
        restart.key.clear();
        check(&[brief.clone(), restart.clone(), get(20, 21, Answer::NotFound)]).unwrap();
        assert!(check(&[brief, restart, get(20, 21, lives)]).is_err());
    }

    #[test]
    fn queues_keep_their_order() {
        let push = |at, item, items| {
            let action = Action::Push { value: item };
            operation(1, (at, Some(at + 1)), action, Answer::Items(items))
        };
        let pop = |at, item| operation(1, (at, Some(at + 1)), Action::Pop, Answer::Popped(item));
        let filled = [push(0, 7, 1), push(2, 8, 2)];
        let then = |rest: &[Operation]| check(&[&filled[..], rest].concat()).is_ok();
        assert!(then(&[pop(4, 7), pop(6, 8)]));
        assert!(!then(&[pop(4, 8)]));
        assert!(!then(&[pop(4, 7), pop(6, 7)]));
        assert!(!then(&[push(4, 9, 2)]));
        let both = [
            operation(1, (4, Some(9)), Action::Pop, Answer::Popped(8)),
            operation(2, (5, Some(8)), Action::Pop, Answer::Popped(7)),
        ];
        assert!(then(&both), "two pops at once may be in either order");
    }

    /// Tries every order of every choice of the unknown ones.
    fn by_brute_force(state: &State, left: &[Operation]) -> bool {
        if left.iter().all(|operation| operation.answer == Answer::Unknown) {
            return true;
        }
        let first_end = left.iter().filter_map(|operation| operation.ended).min();
        left.iter().enumerate().any(|(number, operation)| {
            let may_be_first = first_end.is_none_or(|end| operation.began <= end);
            let mut rest = left.to_vec();
            rest.remove(number);
            let never = operation.answer == Answer::Unknown && by_brute_force(state, &rest);
            let happens = |state: &State| by_brute_force(state, &rest);
            never || may_be_first && state.after(operation).iter().any(happens)
        })
    }

    fn random_operation(random: &mut Random, began: u64) -> Operation {
        let small = |random: &mut Random| i64::try_from(random.below(3)).unwrap();
        let number = small(random);
        let (action, answer) = match random.below(10) {
            0 | 1 => (put(number), written(1 + random.below(4))),
            2 => (Action::Get, value(number, 1 + random.below(4))),
            3 => (Action::Get, Answer::NotFound),
            4 => (Action::Delete { condition: Condition::Always }, Answer::Done),
            5 => (Action::Add { delta: 1 }, Answer::Sum(number + 1)),
            6 => (Action::Push { value: number }, Answer::Items(1 + random.below(2))),
            7 => (Action::Pop, Answer::Popped(number)),
            8 => (Action::Restart, Answer::Done),
            _ => (Action::Add { delta: 1 }, Answer::WrongType),
        };
        let may_be_unknown = !matches!(action, Action::Get | Action::Restart);
        let is_unknown = may_be_unknown && random.below(5) == 0;
        let has_end = !is_unknown || random.below(2) == 0;
        let ended = has_end.then(|| began + 1 + random.below(12));
        let answer = if is_unknown { Answer::Unknown } else { answer };
        operation(began, (began, ended), action, answer)
    }

    #[test]
    fn it_agrees_with_trying_every_order() {
        let mut random = Random(5);
        let mut counts = [0_u32; 2];
        for round in 0..60_000 {
            let len = 2 + random.below(5);
            // Beginnings are even and ends odd, so that no two events fall together.
            let history: Vec<Operation> = (0..len)
                .map(|n| {
                    let mut operation = random_operation(&mut random, n * 4);
                    operation.ended = operation.ended.map(|ended| ended | 1);
                    operation
                })
                .collect();
            let is_linearizable = check(&history).is_ok();
            assert_eq!(
                is_linearizable,
                by_brute_force(&State::default(), &history),
                "round {round}: {history:#?}"
            );
            counts[usize::from(is_linearizable)] += 1;
        }
        assert!(counts.iter().all(|count| *count > 1000), "{counts:?} wrong and right histories");
    }
}
