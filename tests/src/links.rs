//! Clients, and the links that are mailed to people, made without waiting for the mail.

use std::time::Duration;

use serde_json::json;
use shared::domain::verification;
use shared::kernel::Id;
use shared::kernel::secret::sha256_hex;
use shared::store;
use shared::table::Unit;

use crate::{Agent, Owner, PASSWORD, Persona, TestApp};

impl Owner {
    /// Invites a client to look after agents; gives their id and the token of their invitation.
    ///
    /// # Panics
    /// When they are not made.
    pub async fn client(&self, test: &TestApp, agents: &[&Agent]) -> (u64, String) {
        let agents: Vec<u64> = agents.iter().map(|agent| agent.id).collect();
        let email = format!("client.of.{}.{}@example.com", self.user_id, test.app.rng.text(6));
        let client = self.session.post("/api/clients", json!({"email": email, "agent_ids": agents})).await.expect(201);
        let id = client["id"].as_u64().expect("an id");
        (id, test.invitation_token(self, id).await)
    }

    /// A client who accepted and logged in, to whom agents are granted with these scopes; gives their id too.
    ///
    /// # Panics
    /// When they cannot log in.
    pub async fn client_with(&self, test: &TestApp, agents: &[&Agent], scopes: &[&str]) -> (u64, Persona) {
        let (id, token) = self.client(test, &[]).await;
        for agent in agents {
            let body = json!({"agent_id": agent.id, "scopes": scopes});
            self.session.post(&format!("/api/clients/{id}/grants"), body).await.expect(201);
        }
        let anybody = test.anonymous();
        let accepted = json!({"token": token, "password": PASSWORD, "name": "Clara Client"});
        let session = anybody.post("/api/auth/invitations/accept", accepted).await.expect(200);
        (id, anybody.with_bearer(session["access_token"].as_str().expect("a token")))
    }
}

impl TestApp {
    /// The token in the link that a client was mailed.
    ///
    /// # Panics
    /// When they are not invited.
    pub async fn invitation_token(&self, owner: &Owner, client: u64) -> String {
        let (workspace, user) = (self.db_workspace(owner).await.id, Id::from_int(client).expect("an id"));
        let membership = store::workspace::membership(&self.app.table, workspace, user).await.expect("readable");
        let invitation = membership.expect("a member").invitation.expect("an invitation");
        invitation.token(&self.app.keys().await.expect("keys").link, workspace, user)
    }

    /// The token of a link to verify an address.
    ///
    /// # Panics
    /// When nobody has that address.
    pub async fn verification_token(&self, email: &str) -> String {
        let user = store::user::by_email(&self.app.table, email).await.expect("readable").expect("a user");
        let keys = self.app.keys().await.expect("keys");
        verification::token(&keys.link, &user, self.app.now() + verification::LIFETIME)
    }

    /// A token to set a password anew.
    ///
    /// # Panics
    /// When nobody has that address.
    pub async fn reset_token(&self, email: &str) -> String {
        let user = store::user::by_email(&self.app.table, email).await.expect("readable").expect("a user");
        let (token, until) = (self.app.rng.text(32), self.app.now() + Duration::from_secs(3600));
        let mut unit = Unit::new();
        store::user::create_reset(&mut unit, &sha256_hex(&token), user.id, until).expect("serialises");
        self.app.commit(unit).await.expect("the link is written");
        token
    }
}
