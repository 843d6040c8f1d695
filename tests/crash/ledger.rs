//! What clients have asked for and what they were answered, and how that compares with what the store holds.

use std::collections::BTreeMap;
use std::fmt;

/// An account as its owner knows it, or as the store holds it.
#[derive(Clone, Debug, Default)]
struct Account {
    is_answered: bool,
    password: Option<String>,
    sign_ins_asked: i64,
    sign_ins_answered: i64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    accounts: BTreeMap<String, Account>,
    /// Accounts whose password has not been tried since the last start.
    fresh: Vec<(String, String)>,
    /// Tokens that have not been verified since the last start, with the names they are for.
    tokens: Vec<(String, String)>,
    pub(crate) figures: Figures,
}

impl Ledger {
    pub(crate) fn asks_for_account(&mut self, name: &str) {
        self.accounts.insert(name.to_owned(), Account::default());
    }

    pub(crate) fn has_account(&mut self, name: &str) {
        self.account(name).is_answered = true;
        self.figures.registrations += 1;
    }

    pub(crate) fn knows_password(&mut self, name: &str, password: String) {
        self.fresh.push((name.to_owned(), password.clone()));
        self.account(name).password = Some(password);
    }

    pub(crate) fn asks_for_token(&mut self, name: &str) {
        self.account(name).sign_ins_asked += 1;
    }

    pub(crate) fn has_signed_in(&mut self, name: &str) {
        self.account(name).sign_ins_answered += 1;
        self.figures.sign_ins += 1;
    }

    pub(crate) fn has_token(&mut self, name: &str, token: String) {
        self.tokens.push((name.to_owned(), token));
    }

    fn account(&mut self, name: &str) -> &mut Account {
        self.accounts.get_mut(name).unwrap()
    }

    /// One of the newest accounts: several clients sign in to the same one at once.
    pub(crate) fn any_account(&self) -> Option<(String, String)> {
        let newest = self.fresh.len().saturating_sub(8)..self.fresh.len();
        (!newest.is_empty()).then(|| self.fresh[rand::random_range(newest)].clone())
    }

    pub(crate) fn take_fresh(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.fresh)
    }

    pub(crate) fn take_tokens(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.tokens)
    }

    /// Every account whose password is known.
    pub(crate) fn passwords(&self) -> Vec<(String, String)> {
        let known = self.accounts.iter();
        known.filter_map(|(name, account)| Some((name.clone(), account.password.clone()?))).collect()
    }

    /// Compares with the accounts of the store and their sign-ins. What was asked for and not answered may be there or
    /// not; it is settled now, and stays so.
    pub(crate) fn settle(&mut self, stored: &BTreeMap<String, i64>) {
        for name in stored.keys() {
            assert!(self.accounts.contains_key(name), "nobody has asked for {name}");
        }
        let figures = &mut self.figures;
        self.accounts.retain(|name, account| {
            let Some(sign_ins) = stored.get(name) else {
                assert!(!account.is_answered, "{name} was answered and is not there");
                figures.in_flight_lost += 1;
                return false;
            };
            let (asked, answered) = (account.sign_ins_asked, account.sign_ins_answered);
            assert!(
                (answered..=asked).contains(sign_ins),
                "{name} signed in {answered} to {asked} times, and {sign_ins} are there"
            );
            figures.in_flight_kept += u64::from(!account.is_answered);
            figures.in_flight_kept += u64::try_from(sign_ins - answered).unwrap();
            figures.in_flight_lost += u64::try_from(asked - sign_ins).unwrap();
            account.is_answered = true;
            (account.sign_ins_asked, account.sign_ins_answered) = (*sign_ins, *sign_ins);
            true
        });
    }
}

/// How much a run has tried.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) registrations: u64,
    pub(crate) sign_ins: u64,
    pub(crate) in_flight_kept: u64,
    pub(crate) in_flight_lost: u64,
    pub(crate) tokens_verified: u64,
    pub(crate) keys_published: usize,
    pub(crate) moves_begun: u64,
    pub(crate) moves_done: u64,
}

impl Figures {
    pub(crate) fn add(&mut self, other: &Self) {
        self.registrations += other.registrations;
        self.sign_ins += other.sign_ins;
        self.in_flight_kept += other.in_flight_kept;
        self.in_flight_lost += other.in_flight_lost;
        self.tokens_verified += other.tokens_verified;
        self.keys_published += other.keys_published;
        self.moves_begun += other.moves_begun;
        self.moves_done += other.moves_done;
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} registrations and {} sign-ins were answered, and all of them were there; of the requests that were \
             under way, {} had been stored and {} had not; {} tokens verified, by {} keys; of {} moves to another \
             master key, {} were made",
            self.registrations,
            self.sign_ins,
            self.in_flight_kept,
            self.in_flight_lost,
            self.tokens_verified,
            self.keys_published,
            self.moves_begun,
            self.moves_done,
        )
    }
}
