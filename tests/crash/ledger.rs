//! The requests that clients sent and the responses they got, compared with the store.

use std::collections::BTreeMap;
use std::fmt;

/// What clients know of an account.
#[derive(Clone, Debug, Default)]
struct Account {
    is_acknowledged: bool,
    password: Option<String>,
    sign_ins_requested: i64,
    sign_ins_acknowledged: i64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    accounts: BTreeMap<String, Account>,
    /// Accounts whose password has not been used since the last start.
    fresh: Vec<(String, String)>,
    /// Tokens that have not been verified since the last start, with their usernames.
    tokens: Vec<(String, String)>,
    pub(crate) figures: Figures,
}

impl Ledger {
    pub(crate) fn request_account(&mut self, name: &str) {
        self.accounts.insert(name.to_owned(), Account::default());
    }

    pub(crate) fn acknowledge_account(&mut self, name: &str) {
        self.account(name).is_acknowledged = true;
        self.figures.registrations += 1;
    }

    pub(crate) fn store_password(&mut self, name: &str, password: String) {
        self.fresh.push((name.to_owned(), password.clone()));
        self.account(name).password = Some(password);
    }

    pub(crate) fn request_token(&mut self, name: &str) {
        self.account(name).sign_ins_requested += 1;
    }

    pub(crate) fn acknowledge_sign_in(&mut self, name: &str) {
        self.account(name).sign_ins_acknowledged += 1;
        self.figures.sign_ins += 1;
    }

    pub(crate) fn store_token(&mut self, name: &str, token: String) {
        self.tokens.push((name.to_owned(), token));
    }

    fn account(&mut self, name: &str) -> &mut Account {
        self.accounts.get_mut(name).unwrap()
    }

    /// One of the newest accounts, so that several clients sign in to the same one concurrently.
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
        let accounts = self.accounts.iter();
        accounts.filter_map(|(name, account)| Some((name.clone(), account.password.clone()?))).collect()
    }

    /// Compares with the accounts and sign-ins in the store. Requests without a response may or may not be stored; from
    /// now on, the store's state is expected.
    pub(crate) fn settle(&mut self, stored: &BTreeMap<String, i64>) {
        for name in stored.keys() {
            assert!(self.accounts.contains_key(name), "no client requested {name}");
        }
        let figures = &mut self.figures;
        self.accounts.retain(|name, account| {
            let Some(sign_ins) = stored.get(name) else {
                assert!(!account.is_acknowledged, "{name} was acknowledged and is not stored");
                figures.in_flight_lost += 1;
                return false;
            };
            let (requested, acknowledged) = (account.sign_ins_requested, account.sign_ins_acknowledged);
            assert!(
                (acknowledged..=requested).contains(sign_ins),
                "{name} signed in {acknowledged} to {requested} times, and {sign_ins} sign-ins are stored"
            );
            figures.in_flight_kept += u64::from(!account.is_acknowledged);
            figures.in_flight_kept += u64::try_from(sign_ins - acknowledged).unwrap();
            figures.in_flight_lost += u64::try_from(requested - sign_ins).unwrap();
            account.is_acknowledged = true;
            (account.sign_ins_requested, account.sign_ins_acknowledged) = (*sign_ins, *sign_ins);
            true
        });
    }
}

/// Statistics of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) registrations: u64,
    pub(crate) sign_ins: u64,
    pub(crate) in_flight_kept: u64,
    pub(crate) in_flight_lost: u64,
    pub(crate) tokens_verified: u64,
    pub(crate) keys_published: usize,
    pub(crate) rekeys_started: u64,
    pub(crate) rekeys_committed: u64,
}

impl Figures {
    pub(crate) fn add(&mut self, other: &Self) {
        self.registrations += other.registrations;
        self.sign_ins += other.sign_ins;
        self.in_flight_kept += other.in_flight_kept;
        self.in_flight_lost += other.in_flight_lost;
        self.tokens_verified += other.tokens_verified;
        self.keys_published += other.keys_published;
        self.rekeys_started += other.rekeys_started;
        self.rekeys_committed += other.rekeys_committed;
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} registrations and {} sign-ins were acknowledged, and all of them are stored; of the requests in \
             flight, {} were stored and {} were not; {} tokens verified, by {} keys; of {} rekeys, {} were \
             committed",
            self.registrations,
            self.sign_ins,
            self.in_flight_kept,
            self.in_flight_lost,
            self.tokens_verified,
            self.keys_published,
            self.rekeys_started,
            self.rekeys_committed,
        )
    }
}
