//! Whose work a session does: found out when it comes in, and when what may name its tenant has changed; where that has a
//! pool of its own, or is elsewhere, the session's connections come from there. And the turns of those with a rate.

use std::sync::Arc;
use std::time::Duration;

use super::batch::{Batch, Next};
use super::caching::Caching;
use super::course::Course;
use super::entry::Verdict;
use super::run::{Client, End};
use super::shared::Shared;
use crate::config::tenant::TenantWay;
use crate::config::words::{PRIORITIES, word};
use crate::config::{Config, Priority};
use crate::core::clock::Instant;
use crate::core::error::{Error, Result, SqlState};
use crate::pool::pool::Pool;
use crate::pool::settings::{APPLICATION_NAME, Settings};
use crate::pool::term;
use crate::tenant::naming::{About, Denied};
use crate::tenant::{Over, Tenant};

/// The settings by which sessions say whose work they do, and how soon it is wanted.
pub(super) const TENANT: &str = "turnpike.tenant";
pub(super) const PRIORITY: &str = "turnpike.priority";

/// What a client has said when it came in.
#[derive(Debug, Default)]
pub struct Claims {
    /// Its startup packet's options.
    startup: Option<Box<str>>,
    /// The host name that it asked TLS for.
    host: Option<Box<str>>,
    /// How soon it wants to be served, where it has not set that since.
    priority: Option<Priority>,
}

/// What a session's tenant was found out from.
#[derive(Debug, Default)]
pub struct Tenancy {
    claims: Option<Box<Claims>>,
    /// Its settings; nothing where it has still to be found out.
    known: Option<Arc<Settings>>,
    serial: u32,
    /// The statement that ends next has had its turn.
    paid: bool,
    /// It could not move yet to where its tenant is.
    unsettled: bool,
}

impl Tenancy {
    /// Whether the session has said something that may name its tenant.
    pub(super) fn has_claims(&self) -> bool {
        self.claims.is_some()
    }

    /// Of a session that has said this when it came in.
    pub(super) fn of(claims: Option<Box<Claims>>) -> Tenancy {
        Tenancy { claims, ..Tenancy::default() }
    }
}

impl Claims {
    /// What startup settings say, taken out of them, and what TLS was asked for. `None` where that is nothing.
    ///
    /// # Errors
    /// It says what it may not, or what makes no sense.
    pub(super) fn of(
        shared: &Shared,
        user: &str,
        settings: &mut Settings,
        host: Option<String>,
    ) -> Result<Option<Box<Claims>>> {
        let naming = shared.pools.tenants.naming();
        let mut claims = Claims { host: host.map(Into::into), ..Claims::default() };
        if let Some(name) = settings.get(TENANT).filter(|_| naming.is_on()).map(str::to_string) {
            if let Err(why) = naming.may(TenantWay::Startup, user, &name) {
                return Err(fatal(denied(why, user, &name)));
            }
            settings.remove(TENANT);
            claims.startup = Some(name.into());
        }
        if let Some(value) = settings.get(PRIORITY).map(str::to_string) {
            claims.priority = Some(priority(&value).ok_or_else(|| fatal(no_priority(&value)))?);
            settings.remove(PRIORITY);
        }
        let is_any = claims.startup.is_some() || claims.host.is_some() || claims.priority.is_some();
        Ok(is_any.then(|| Box::new(claims)))
    }

    /// What is known of a client that comes in.
    pub(super) fn about<'a>(
        claims: Option<&'a Claims>,
        (user, database): (&'a str, &'a str),
        settings: &'a Settings,
    ) -> About<'a> {
        About {
            user,
            database,
            application: settings.get(APPLICATION_NAME).unwrap_or_default(),
            set: settings.get(TENANT),
            startup: claims.and_then(|c| c.startup.as_deref()),
            host: claims.and_then(|c| c.host.as_deref()),
        }
    }
}

fn fatal(e: Error) -> Error {
    Error { severity: crate::core::error::Severity::Fatal, ..e }
}

/// What a word means.
pub(super) fn priority(word: &str) -> Option<Priority> {
    PRIORITIES.iter().find(|(known, _)| known.eq_ignore_ascii_case(word.trim())).map(|(_, meant)| *meant)
}

/// What a client is told that says that it is a tenant that it may not be.
pub(super) fn denied(why: Denied, user: &str, name: &str) -> Error {
    let permission = |detail: String| {
        let text = format!("permission denied to set parameter \"{TENANT}\"");
        Error::statement(SqlState::INSUFFICIENT_PRIVILEGE, text).detail(detail)
    };
    match why {
        Denied::Way => permission("Clients do not name their tenants here in this way (tenants.by).".into())
            .hint("Tenants are known by what tenants.by and [[tenant]] say."),
        Denied::User => permission(format!(
            "User \"{}\" is not among those whose word counts (claimed_by).",
            user.escape_debug()
        ))
        .hint("List the user in claimed_by of [tenants] or of the [[tenant]]."),
        Denied::Name => {
            let text = format!("invalid value for parameter \"{TENANT}\": \"{}\"", name.escape_debug());
            Error::statement(SqlState::INVALID_PARAMETER, text)
                .detail("A tenant's name has from 1 to 128 bytes, and no control characters.")
        }
    }
}

/// What a client is told that asks for a priority that there is not.
pub(super) fn no_priority(value: &str) -> Error {
    let text = format!("invalid value for parameter \"{PRIORITY}\": \"{}\"", value.escape_debug());
    Error::statement(SqlState::INVALID_PARAMETER, text).hint("Available values: interactive, batch.")
}

/// What a session is told that keeps state where its tenant is no more.
fn moved() -> Error {
    Verdict::Moved.error()
}

fn over(tenant: &Tenant, over: Over, longest: Duration) -> Error {
    let meter = if over.rate == "rows" { &tenant.rows } else { &tenant.statements };
    let (rate, wait) = (meter.rate(), over.wait.as_secs_f64());
    let text = format!("too many {} per second for tenant \"{}\"", over.rate, tenant.name.escape_debug());
    Error::statement(SqlState::LIMIT_EXCEEDED, text)
        .detail(format!(
            "The limit is {} per second, and {} at once ({}_per_second, {}_burst); its turn would come in {wait:.3} s, \
             later than tenants.rate_wait, {:.3} s.",
            rate.per_second,
            rate.burst,
            over.rate,
            over.rate,
            longest.as_secs_f64()
        ))
        .hint(format!("Try again after {wait:.1} s, or send less."))
        .retryable()
}

/// Where the configuration has a tenant's work on a database, by name.
pub(super) fn place(config: &Config, database: &str, tenant: Option<&str>) -> Option<String> {
    let database = config.database(database)?;
    let home = config.home(database, tenant);
    let backend = config.backends.get(home.backend)?;
    Some(home.cluster.map_or_else(|| format!("backend {}", backend.name), |c| format!("cluster {c}")))
}

impl Client {
    /// Whether nothing has changed that may name its tenant.
    #[inline]
    pub(super) fn knows_its_tenant(&self) -> bool {
        let Tenancy { known, serial, .. } = &self.tenancy;
        *serial == self.shared.pools.tenants.serial() as u32
            && known.as_ref().is_some_and(|settings| Arc::ptr_eq(settings, &self.settings))
    }

    /// Whether it is known whose work it does, and nothing bounds that per second.
    #[inline]
    pub(super) fn is_unmetered(&self) -> bool {
        !self.tenancy.unsettled && self.knows_its_tenant() && !self.is_metered()
    }

    /// Whether its tenant's statements or rows are bounded per second.
    #[inline]
    pub(super) fn is_metered(&self) -> bool {
        self.wish.tenant.as_ref().is_some_and(|tenant| tenant.is_metered())
    }

    /// Whose work it does, for people; nothing where it is nobody's.
    pub(super) fn tenant_line(&self) -> String {
        let Some(tenant) = &self.wish.tenant else { return String::new() };
        let purpose = &self.entry.pool.purpose;
        let about =
            Claims::about(self.tenancy.claims.as_deref(), (&purpose.user, &purpose.database), &self.settings);
        let naming = self.shared.pools.tenants.naming();
        let by = naming.name(&about).map_or("what it was before", |(_, by)| by);
        let most = match tenant.max() {
            0 => String::new(),
            max => format!(" of {max}"),
        };
        let pool = if self.pool.purpose.tenant.is_some() { ", in its own pool" } else { "" };
        format!(
            "{} (by {by}), {}, weight {}, {}{most} connections, {} guaranteed{pool}",
            tenant.name.escape_debug(),
            word(PRIORITIES, &self.wish.priority),
            tenant.weight(),
            tenant.leased(),
            tenant.guaranteed(),
        )
    }

    /// Finds out which tenant it is, and where its connections come from, now that it has none.
    ///
    /// # Errors
    /// Its tenant is somewhere else now, and it keeps state that cannot follow.
    pub(super) fn settle_tenant(&mut self) -> std::result::Result<(), End> {
        let shared = self.shared.clone();
        let tenants = &shared.pools.tenants;
        let serial = tenants.serial() as u32;
        let purpose = &self.entry.pool.purpose;
        let claims = self.tenancy.claims.as_deref();
        let about = Claims::about(claims, (&purpose.user, &purpose.database), &self.settings);
        let tenant = tenants.of(&about).map(|(tenant, _)| tenant);
        let wanted = self.settings.get(PRIORITY).and_then(priority);
        let wanted = wanted.or_else(|| claims.and_then(|c| c.priority)).unwrap_or_default();
        self.wish.priority = tenant.as_ref().map_or(wanted, |tenant| tenant.priority(wanted));
        self.entry.set_tenant(tenant.clone());
        self.wish.tenant = tenant;
        // Where something has still to end, it is looked at again with the next request.
        self.tenancy.unsettled = !self.may_find_home()?;
        (self.tenancy.known, self.tenancy.serial) = (Some(self.settings.clone()), serial);
        Ok(())
    }

    /// Moves to its tenant's pool, if it is not there. False where that has to wait for something to end.
    fn may_find_home(&mut self) -> std::result::Result<bool, End> {
        let here = self.course.as_ref().map_or(&self.pool, |course| &course.home).clone();
        let config = self.shared.config.load_full();
        let name = self.wish.tenant.as_ref().map(|tenant| tenant.name.clone());
        let listed = name.as_deref().and_then(|name| config.tenants.of(name));
        let purpose = &self.entry.pool.purpose;
        let own = listed.filter(|t| t.own_pool).and(name.as_deref());
        let is_here = match (own, here.purpose.tenant.as_deref()) {
            // Those who share a pool stay where it was when they came.
            (None, None) => true,
            (wanted, has) => wanted == has && self.is_at(&config, &here),
        };
        if is_here {
            return Ok(true);
        }
        let Some(database) = config.database(&purpose.database) else { return Ok(true) };
        let asked = (purpose.database.as_str(), purpose.user.as_str());
        let pool = self.shared.pools.pool(&config, database, asked, own);
        let same = Arc::ptr_eq(&pool.target, &here.target);
        if self.keeps_state() {
            // The same server, under another name, is as good; elsewhere its state is not.
            return if same { Ok(true) } else { Err(End::from(moved())) };
        }
        let free = self.lease.is_none()
            && self.doubts.is_none()
            && !self.blurred
            && self.course.as_ref().is_none_or(|course| course.unopened.is_none());
        if free {
            self.move_to(pool);
        }
        Ok(free)
    }

    /// Whether the configuration has its tenant where this pool is.
    fn is_at(&self, config: &Config, pool: &Pool) -> bool {
        let Some(database) = config.database(&pool.purpose.database) else { return true };
        let home = config.home(database, pool.purpose.tenant.as_deref());
        match home.cluster.and_then(|name| config.cluster(name)) {
            Some(cluster) => {
                let is_on = self.course.as_ref().is_some_and(|course| course.cluster.name() == cluster.name);
                is_on && cluster.members(config).any(|b| b.name == pool.target.name())
            }
            None => config.backends.get(home.backend).is_some_and(|b| b.name == pool.target.name()),
        }
    }

    /// Whether there is something of its session on a server.
    pub(super) fn keeps_state(&self) -> bool {
        self.listening.is_some() || self.lease.is_some() && !self.pins.is_empty()
    }

    fn move_to(&mut self, pool: Arc<Pool>) {
        tracing::debug!(
            client = self.entry.id,
            backend = pool.target.name(),
            "session moves with its tenant"
        );
        self.wish.class = match self.wish.class.is_empty() {
            true => pool.neutral().clone(),
            false => pool.shared_settings(Settings::clone(&self.wish.class)),
        };
        self.wish.term = term::NONE;
        self.course = Course::of(&self.shared, &pool);
        // What is kept of elsewhere is not what is there.
        self.caching = Caching::of(&self.shared, &pool);
        self.names.forget_plans();
        (self.pool, self.reading) = (pool, None);
    }
}

impl Batch<'_> {
    /// A statement has ended, with so many rows.
    #[inline]
    pub(super) fn tenant_ended(&mut self, rows: u64) {
        if let Some(tenant) = &self.client.wish.tenant {
            tenant.ended(rows, std::mem::take(&mut self.client.tenancy.paid));
            self.flow.hand.sent = 0;
        }
    }

    /// It has been passed so many rows more of a statement, which may fail yet.
    #[inline]
    pub(super) fn tenant_reads(&mut self, rows: u64) {
        if self.client.is_metered() {
            self.flow.hand.sent += rows;
        }
    }

    /// A portal has given so many rows, and may give more.
    pub(super) fn tenant_paused(&mut self, rows: u64) {
        if let Some(tenant) = &self.client.wish.tenant {
            tenant.read_on(rows);
            self.flow.hand.sent = 0;
        }
    }

    /// A statement has failed.
    #[inline]
    pub(super) fn tenant_failed(&mut self) {
        if let Some(tenant) = &self.client.wish.tenant {
            tenant.did.errors.add(1);
            self.client.tenancy.paid = false;
            self.tenant_left();
        }
    }

    /// No more of a statement comes: what it has given so far is paid for, too.
    pub(super) fn tenant_left(&mut self) {
        let sent = std::mem::take(&mut self.flow.hand.sent);
        if let Some(tenant) = self.client.wish.tenant.as_ref().filter(|_| sent > 0) {
            tenant.read_on(sent);
        }
    }

    /// What a statement has given is taken back, and comes again.
    pub(super) fn tenant_recalls(&mut self) {
        self.flow.hand.sent = 0;
    }

    /// What a request that needs a server has to wait for, if anything. What is open is not held up for its tenant's rates:
    /// that would hold up others.
    #[inline]
    pub(super) fn wants_server(&mut self) -> Option<Next> {
        let anew = self.begin();
        let has_one = self.client.lease.is_some();
        let client = &mut *self.client;
        if anew && client.tenancy.unsettled {
            (client.tenancy.unsettled, client.tenancy.known) = (false, None);
        }
        let lacks = !client.knows_its_tenant() || client.is_metered() && !client.tenancy.paid;
        let begins = !has_one || anew && client.is_idle() && !self.flow.expected.is_skipping();
        match (lacks && begins, has_one) {
            (true, _) => Some(Next::Turn),
            (false, false) => Some(Next::Lease),
            (false, true) => None,
        }
    }

    /// Finds out whose work it is and waits for that one's turn. False where the statement has been refused.
    pub(super) async fn take_turn(&mut self) -> std::result::Result<bool, End> {
        if !self.client.knows_its_tenant() {
            self.client.settle_tenant()?;
        }
        if !self.client.is_metered() || self.client.tenancy.paid {
            return Ok(true);
        }
        // Boxed: rare.
        match Box::pin(self.pay()).await {
            Err(End::Refused(e)) if e.severity == crate::core::error::Severity::Error => {
                self.fail_waiting(&e).map(|()| false)
            }
            paid => paid.map(|()| true),
        }
    }

    async fn pay(&mut self) -> std::result::Result<(), End> {
        let Some(tenant) = self.client.wish.tenant.clone() else { return Ok(()) };
        let longest = self.client.shared.pools.tenants.naming().config().rate_wait;
        let began = Instant::now();
        let refused = |why: Over| {
            tenant.did.over_rate.add(1);
            Err(End::from(over(&tenant, why, longest)))
        };
        let mut wait = match tenant.take_turn(began, longest) {
            Ok(wait) => wait,
            Err(why) => return refused(why),
        };
        tenant.did.throttled.add(u64::from(!wait.is_zero()));
        while !wait.is_zero() {
            let before = Instant::now();
            let slept = self.wait_for(tokio::time::sleep(wait)).await;
            let now = Instant::now();
            tenant.did.throttled_us.add(now.micros_since(before));
            if slept.is_err() {
                tenant.statements.give_back();
                return slept;
            }
            // Others may have read much meanwhile.
            wait = tenant.rows.wait(now);
            if !wait.is_zero() && now.since(began) + wait > longest {
                tenant.statements.give_back();
                return refused(Over { rate: "rows", wait });
            }
        }
        self.client.tenancy.paid = true;
        Ok(())
    }
}
