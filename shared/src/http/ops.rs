//! The operation table. One row makes the route, the gate, the document entry and a line of the access matrix.

use std::future::Future;

use axum::Router;
use axum::extract::State;
use axum::handler::Handler;
use axum::routing::{MethodFilter, on};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::call::{Call, Visit};
use super::errors::Dialect;
use super::gate::{self, Authenticate};
use super::schemas::Schemas;
use crate::access::Op;
use crate::app::App;
use crate::kernel::id::Named;
use crate::kernel::{Int, Result, Text};

/// One documented contract: its groups, how it writes errors, how it recognises callers.
pub struct Surface {
    /// Such as `studio`.
    pub name: &'static str,
    /// What the document is called.
    pub title: &'static str,
    /// How it writes errors.
    pub dialect: Dialect,
    /// How it recognises callers.
    pub authenticate: Authenticate,
    /// Its route groups; each is one Lambda.
    pub groups: &'static [Group],
}

/// A route group: one `ops!` table.
pub struct Group {
    /// Such as `agents`; the Lambda is `<surface>-<group>`.
    pub name: &'static str,
    /// What the group is for, in the document.
    pub about: &'static str,
    /// Its rows.
    pub rows: fn() -> Vec<Row>,
    /// Its routes, gated.
    pub router: fn(&App, &'static Surface) -> Router<App>,
    /// Whether its answers come piece by piece. That is a property of the whole function, and of the API before it.
    pub streams: bool,
}

impl Group {
    /// The same without what only the document reads, for a function: what it never uses is not linked into it.
    #[must_use]
    pub const fn undocumented(self) -> Self {
        Self { rows: Vec::new, ..self }
    }
}

/// One row as tests and the document see it.
pub struct Row {
    /// What it declares.
    pub op: &'static Op,
    /// What its handler takes and gives.
    pub document: fn(&mut Schemas) -> RowDoc,
}

/// What a handler takes and gives, taken from its signature.
#[derive(Debug, Default)]
pub struct RowDoc {
    /// Schemas of the path's parameters, in order.
    pub path: Vec<Schema>,
    /// The object whose properties are the query's parameters.
    pub query: Option<Schema>,
    /// The body, and whether it must be there.
    pub body: Option<(Schema, bool)>,
    /// Headers that mean something to this row alone, and what.
    pub headers: Vec<(&'static str, &'static str)>,
    /// Status, schema and content type of success.
    pub ok: Option<(u16, Option<Schema>, &'static str)>,
    /// In which other content type success may come.
    pub other_form: Option<&'static str>,
    /// Further statuses of success, which come without a body, and what they mean.
    pub bare: Vec<(u16, &'static str)>,
}

/// A [`RowDoc`] in the making.
pub struct OpDoc<'a> {
    /// Makes schemas.
    pub schemas: &'a mut Schemas,
    /// See [`RowDoc`].
    pub path: Vec<Schema>,
    /// See [`RowDoc`].
    pub query: Option<Schema>,
    /// See [`RowDoc`].
    pub body: Option<(Schema, bool)>,
    /// See [`RowDoc`].
    pub headers: Vec<(&'static str, &'static str)>,
    /// See [`RowDoc`].
    pub ok: Option<(u16, Option<Schema>, &'static str)>,
    /// See [`RowDoc`].
    pub other_form: Option<&'static str>,
    /// See [`RowDoc`].
    pub bare: Vec<(u16, &'static str)>,
}

/// An argument of a handler, as the document sees it.
pub trait DocIn {
    /// Adds what the argument takes from the request.
    fn document(_: &mut OpDoc<'_>) {}
}

/// The answer of a handler, as the document sees it.
pub trait DocOut {
    /// Adds what success looks like.
    fn document(doc: &mut OpDoc<'_>);
}

/// The parameters of a path.
pub trait DocPath {
    /// A schema for each.
    fn schemas(generator: &mut SchemaGenerator) -> Vec<Schema>;
}

impl DocIn for State<App> {}
impl DocIn for Call {}
impl DocIn for Visit {}
impl DocIn for axum::http::HeaderMap {}

impl<K> DocPath for Int<K> {
    fn schemas(generator: &mut SchemaGenerator) -> Vec<Schema> {
        vec![Self::json_schema(generator)]
    }
}
impl<K: Named> DocPath for Text<K> {
    fn schemas(generator: &mut SchemaGenerator) -> Vec<Schema> {
        vec![Self::json_schema(generator)]
    }
}
impl DocPath for String {
    fn schemas(generator: &mut SchemaGenerator) -> Vec<Schema> {
        vec![Self::json_schema(generator)]
    }
}
impl DocPath for u32 {
    fn schemas(generator: &mut SchemaGenerator) -> Vec<Schema> {
        vec![Self::json_schema(generator)]
    }
}
impl DocPath for uuid::Uuid {
    fn schemas(generator: &mut SchemaGenerator) -> Vec<Schema> {
        vec![Self::json_schema(generator)]
    }
}
impl<A: DocPath, B: DocPath> DocPath for (A, B) {
    fn schemas(generator: &mut SchemaGenerator) -> Vec<Schema> {
        [A::schemas(generator), B::schemas(generator)].concat()
    }
}
impl<A: DocPath, B: DocPath, C: DocPath> DocPath for (A, B, C) {
    fn schemas(generator: &mut SchemaGenerator) -> Vec<Schema> {
        [A::schemas(generator), B::schemas(generator), C::schemas(generator)].concat()
    }
}

/// A handler whose signature documents itself. `M` only tells the arities apart.
pub trait Documented<M> {
    /// What it takes and gives.
    fn document(schemas: &mut Schemas) -> RowDoc;
}

macro_rules! documented {
    ($($argument:ident),*) => {
        impl<F, Fut, R, $($argument),*> Documented<($($argument,)*)> for F
        where
            F: Fn($($argument),*) -> Fut,
            Fut: Future<Output = Result<R>>,
            R: DocOut,
            $($argument: DocIn,)*
        {
            fn document(schemas: &mut Schemas) -> RowDoc {
                let (query, body, ok, other_form) = (None, None, None, None);
                let (path, headers, bare) = (Vec::new(), Vec::new(), Vec::new());
                let mut doc = OpDoc { schemas, path, query, body, headers, ok, other_form, bare };
                $(<$argument as DocIn>::document(&mut doc);)*
                R::document(&mut doc);
                let OpDoc { path, query, body, headers, ok, other_form, bare, .. } = doc;
                RowDoc { path, query, body, headers, ok, other_form, bare }
            }
        }
    };
}
documented!();
documented!(A);
documented!(A, B);
documented!(A, B, C);
documented!(A, B, C, D);
documented!(A, B, C, D, E);
documented!(A, B, C, D, E, F1);

/// The document of a handler, found by its value.
pub fn document_of<M, H: Documented<M>>(_: H, schemas: &mut Schemas) -> RowDoc {
    H::document(schemas)
}

/// Adds one row's route behind its gate. Only `ops!` calls it.
#[expect(clippy::disallowed_methods, reason = "the one place that makes a route, from a row")]
pub fn mount<H, M>(
    router: Router<App>,
    app: &App,
    surface: &'static Surface,
    op: &'static Op,
    handler: H,
) -> Router<App>
where
    H: Handler<M, App>,
    M: 'static,
{
    let filter = match op.method {
        "GET" => MethodFilter::GET,
        "POST" => MethodFilter::POST,
        "PUT" => MethodFilter::PUT,
        "PATCH" => MethodFilter::PATCH,
        _ => MethodFilter::DELETE,
    };
    let state = gate::Gate { app: app.clone(), op, authenticate: surface.authenticate };
    let gated = on(filter, handler).route_layer(axum::middleware::from_fn_with_state(state, gate::gate));
    router.route(op.path, gated)
}

/// Declares the operations of a group:
///
/// ```text
/// ops! {
///     /// Create a thing. The first sentence is the summary of the document.
///     POST "/things" => create_thing, [User Developer] Editor "things:write" General Any Known Audited Keyed;
/// }
/// ```
///
/// The columns are credentials, role floor, scope, rate class, plan gate, visibility, audit and idempotency; each must be
/// given. `also [402 409]` behind them tells the document what else a row answers: `200` beside a 201 is the same success
/// for what was there already. At the end, `+ assisted` opens what changes something to staff who act for somebody, and
/// `+ private` closes what reads. The macro makes `rows()` for tests and the document, and `router()` for serving.
#[macro_export]
macro_rules! ops {
    (@acting) => { $crate::access::Acting::Reads };
    (@acting assisted) => { $crate::access::Acting::Assists };
    (@acting private) => { $crate::access::Acting::Nothing };
    ($(
        $(#[doc = $doc:literal])+
        $method:ident $path:literal => $handler:ident,
            [$($credential:ident)*] $floor:ident $scope:literal $rate:ident $plan:ident $visibility:ident $audit:ident $idempotency:ident
            $(also [$($also:literal)*])? $(+ $acting:ident)?;
    )*) => {
        mod table {
            $(
                #[expect(non_upper_case_globals, reason = "each row is named as its handler")]
                pub(super) static $handler: $crate::access::Op = $crate::access::Op {
                    id: stringify!($handler),
                    method: stringify!($method),
                    path: $path,
                    credentials: &[$($crate::access::Credential::$credential),*],
                    floor: $crate::access::Floor::$floor,
                    scope: $scope,
                    rate: $crate::access::RateClass::$rate,
                    plan: $crate::access::PlanGate::$plan,
                    visibility: $crate::access::Visibility::$visibility,
                    audit: $crate::access::Audit::$audit,
                    idempotency: $crate::access::Idempotency::$idempotency,
                    also: &[$($($also),*)?],
                    acting: $crate::ops!(@acting $($acting)?),
                    doc: concat!($($doc, "\n"),+),
                };
            )*
        }

        /// The rows of this group.
        #[must_use]
        pub fn rows() -> Vec<$crate::http::Row> {
            vec![$($crate::http::Row {
                op: &table::$handler,
                document: |schemas| $crate::http::ops::document_of($handler, schemas),
            }),*]
        }

        /// The routes of this group, gated.
        pub fn router(app: &$crate::app::App, surface: &'static $crate::http::Surface) -> axum::Router<$crate::app::App> {
            let router = axum::Router::new();
            $(let router = $crate::http::ops::mount(router, app, surface, &table::$handler, $handler);)*
            router
        }
    };
}
