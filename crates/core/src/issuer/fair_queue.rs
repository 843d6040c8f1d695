//! A bounded queue in which clients take turns, so that a client that sends much delays itself and not the others.

use std::collections::{HashMap, VecDeque};

use crate::client::ClientKey;

/// For whom a job is done. Decides how long it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requester {
    /// An operator, or the program itself.
    Operator,
    /// A client that has lately signed in to the account that it names.
    Known(ClientKey),
    /// Any other client.
    Other(ClientKey),
}

/// Jobs that wait, in two lanes: one for operators and known clients, one for all others.
///
/// While both lanes have jobs, each gets every other turn: neither can delay the other by more than half. Within a lane, the
/// clients take turns.
pub(super) struct FairQueue<T> {
    known: Lane<T>,
    others: Lane<T>,
    /// Which lane has the next turn.
    next: LaneName,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LaneName {
    Known,
    Others,
}

/// Whose jobs wait one behind the other.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Line {
    Client(ClientKey),
    Operators,
}

impl Requester {
    /// The lane, and the line in it.
    fn place(self) -> (LaneName, Line) {
        match self {
            Self::Operator => (LaneName::Known, Line::Operators),
            Self::Known(client) => (LaneName::Known, Line::Client(client)),
            Self::Other(client) => (LaneName::Others, Line::Client(client)),
        }
    }
}

impl<T> FairQueue<T> {
    /// An empty queue with this many places in each lane.
    pub(super) fn new(places: usize) -> Self {
        Self { known: Lane::new(places), others: Lane::new(places), next: LaneName::Known }
    }

    /// How many jobs wait.
    pub(super) fn len(&self) -> usize {
        self.known.waiting + self.others.waiting
    }

    /// How many jobs, at most, are taken before one that this requester would add now. Those that come later and are taken
    /// before it are not counted.
    pub(super) fn ahead_of(&self, requester: Requester) -> usize {
        let (name, line) = requester.place();
        let (own, other) = match name {
            LaneName::Known => (&self.known, &self.others),
            LaneName::Others => (&self.others, &self.known),
        };
        let ahead = own.ahead_of(line);
        // The other lane has a turn before each of these jobs, and before the new one.
        ahead + other.waiting.min(ahead + 1)
    }

    /// Adds a job. If the lane is full, a job gives way and is returned: the newest of the client that has the most jobs in
    /// it, which may be the new job.
    #[must_use]
    pub(super) fn push(&mut self, requester: Requester, job: T) -> Option<T> {
        let (name, line) = requester.place();
        self.lane(name).push(line, job)
    }

    /// Removes the job whose turn it is.
    pub(super) fn pop(&mut self) -> Option<T> {
        let (first, second) = match self.next {
            LaneName::Known => (LaneName::Known, LaneName::Others),
            LaneName::Others => (LaneName::Others, LaneName::Known),
        };
        self.next = second;
        self.lane(first).pop().or_else(|| self.lane(second).pop())
    }

    fn lane(&mut self, name: LaneName) -> &mut Lane<T> {
        match name {
            LaneName::Known => &mut self.known,
            LaneName::Others => &mut self.others,
        }
    }
}

/// Round robin over the lines: fair queueing (J. Nagle, RFC 970 §3).
struct Lane<T> {
    /// No line is empty.
    jobs: HashMap<Line, VecDeque<T>>,
    /// The lines that have jobs, in the order of their turns.
    turns: VecDeque<Line>,
    waiting: usize,
    places: usize,
}

impl<T> Lane<T> {
    fn new(places: usize) -> Self {
        Self { jobs: HashMap::new(), turns: VecDeque::new(), waiting: 0, places }
    }

    fn len_of(&self, line: Line) -> usize {
        self.jobs.get(&line).map_or(0, VecDeque::len)
    }

    /// Before the n-th job of a line, each other line has at most n turns.
    fn ahead_of(&self, line: Line) -> usize {
        let own = self.len_of(line);
        let others = self.jobs.iter().filter(|(other, _)| **other != line);
        own + others.map(|(_, jobs)| jobs.len().min(own + 1)).sum::<usize>()
    }

    fn push(&mut self, line: Line, job: T) -> Option<T> {
        let mut displaced = None;
        if self.waiting >= self.places {
            // A line that is longer by one has no more than its share.
            let Some(longest) = self.longest_above(self.len_of(line) + 1) else {
                return Some(job);
            };
            displaced = self.remove_newest(longest);
        }
        let jobs = self.jobs.entry(line).or_default();
        if jobs.is_empty() {
            self.turns.push_back(line);
        }
        jobs.push_back(job);
        self.waiting += 1;
        displaced
    }

    /// The longest line, if it has more than `len` jobs.
    fn longest_above(&self, len: usize) -> Option<Line> {
        let longest = self.jobs.iter().max_by_key(|(_, jobs)| jobs.len());
        longest.filter(|(_, jobs)| jobs.len() > len).map(|(line, _)| *line)
    }

    /// The line keeps at least one job, and with it its turn.
    fn remove_newest(&mut self, line: Line) -> Option<T> {
        let newest = self.jobs.get_mut(&line)?.pop_back()?;
        self.waiting -= 1;
        Some(newest)
    }

    fn pop(&mut self) -> Option<T> {
        let line = self.turns.pop_front()?;
        let jobs = self.jobs.get_mut(&line)?;
        let job = jobs.pop_front()?;
        self.waiting -= 1;
        if jobs.is_empty() {
            self.jobs.remove(&line);
        } else {
            self.turns.push_back(line);
        }
        Some(job)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn client(n: u8) -> ClientKey {
        IpAddr::from([192, 0, 2, n]).into()
    }

    fn other(n: u8) -> Requester {
        Requester::Other(client(n))
    }

    fn drained<T>(queue: &mut FairQueue<T>) -> Vec<T> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn clients_take_turns_in_the_order_in_which_they_came() {
        let mut queue = FairQueue::new(10);
        for job in [(1, 'a'), (1, 'b'), (1, 'c'), (2, 'x'), (3, 'y'), (2, 'z')] {
            assert_eq!(queue.push(other(job.0), job), None);
        }
        assert_eq!(drained(&mut queue), [(1, 'a'), (2, 'x'), (3, 'y'), (1, 'b'), (2, 'z'), (1, 'c')]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn known_clients_and_others_get_every_other_turn() {
        let mut queue = FairQueue::new(10);
        for n in 0..4 {
            assert_eq!(queue.push(other(n), format!("other {n}")), None);
        }
        assert_eq!(queue.push(Requester::Known(client(9)), "known".to_owned()), None);
        assert_eq!(queue.push(Requester::Operator, "operator".to_owned()), None);
        let order = ["known", "other 0", "operator", "other 1", "other 2", "other 3"];
        assert_eq!(drained(&mut queue), order);
    }

    #[test]
    fn in_a_full_lane_the_client_with_the_most_jobs_gives_way() {
        let mut queue = FairQueue::new(3);
        for job in ['a', 'b', 'c'] {
            assert_eq!(queue.push(other(1), job), None);
        }
        assert_eq!(queue.push(other(1), 'd'), Some('d'));
        assert_eq!(queue.push(other(2), 'x'), Some('c'));
        // Now the first has two places and the second one: another job of the second would only turn that round.
        assert_eq!(queue.push(other(2), 'y'), Some('y'));
        assert_eq!(queue.push(other(3), 'z'), Some('b'));
        assert_eq!(queue.push(other(4), '!'), Some('!'));
        assert_eq!(drained(&mut queue), ['a', 'x', 'z']);
    }

    #[test]
    fn a_full_lane_of_others_leaves_the_places_of_known_clients() {
        let mut queue = FairQueue::new(2);
        for n in 0..2 {
            assert_eq!(queue.push(other(n), n), None);
        }
        assert_eq!(queue.push(Requester::Known(client(7)), 7), None);
        assert_eq!(queue.pop(), Some(7));
    }

    fn requesters() -> impl Strategy<Value = Requester> {
        prop_oneof![
            Just(Requester::Operator),
            (0..4_u8).prop_map(|n| Requester::Known(client(n))),
            (0..6_u8).prop_map(other),
        ]
    }

    proptest! {
        #[test]
        fn a_job_waits_for_no_more_than_was_foretold_unless_others_come_and_none_is_lost(
            pushed in prop::collection::vec(requesters(), 1..60),
            popped in 0..20_usize,
            last in requesters(),
        ) {
            let mut queue = FairQueue::new(12);
            let mut refused = 0;
            for (job, requester) in pushed.iter().enumerate() {
                refused += usize::from(queue.push(*requester, job).is_some());
            }
            let taken = (0..popped).filter_map(|_| queue.pop()).count();
            prop_assert_eq!(queue.len(), pushed.len() - refused - taken);

            let foretold = queue.ahead_of(last);
            let job = usize::MAX;
            if queue.push(last, job) != Some(job) {
                let order = drained(&mut queue);
                let ahead = order.iter().position(|other| *other == job);
                prop_assert!(ahead.is_some_and(|ahead| ahead <= foretold), "{:?} {}", ahead, foretold);
            }
        }
    }
}
