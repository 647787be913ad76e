// The pages behind mailed links: accept an invitation, set a password anew, verify an address. The token stands behind the #, which no
// browser sends to a server; it is taken out of the address at once.
"use strict";

const TEXTS = {
  en: {
    invitation: ["Accept your invitation", "Choose a password. If you have an account here already, give its password."],
    reset: ["Set your password anew", "All your sessions end. Log in again with the new password."],
    verify: ["Verify your e-mail", "You registered here with this address. If it was not you, close this page."],
    name: "Name", password: "Password", hint: "At least 8 characters.", send: "Save",
    incomplete: "This link is not whole. Open it again from the mail.",
    yes: "Verify", verified: "Your e-mail is verified.",
    accepted: "Welcome. {who} invited you. There is no page to log in here: log in with your e-mail and this password in the app of whoever invited you, or by the API (POST {api}).",
    saved: "Your password is set. There is no page to log in here: log in with it in the app that you use, or by the API (POST {api}).",
    short: "The password needs at least 8 characters.", offline: "No connection. Try again.",
  },
  es: {
    invitation: ["Acepta tu invitación", "Elige una contraseña. Si ya tienes una cuenta aquí, escribe la suya."],
    reset: ["Elige una contraseña nueva", "Se cierran todas tus sesiones. Entra de nuevo con la contraseña nueva."],
    verify: ["Verifica tu correo", "Te registraste aquí con esta dirección. Si no fuiste tú, cierra esta página."],
    name: "Nombre", password: "Contraseña", hint: "Al menos 8 caracteres.", send: "Guardar",
    incomplete: "El enlace no está completo. Ábrelo otra vez desde el correo.",
    yes: "Verificar", verified: "Tu correo está verificado.",
    accepted: "Te damos la bienvenida. Te ha invitado {who}. Aquí no hay página de acceso: entra con tu correo y esta contraseña en la aplicación de quien te invitó, o por la API (POST {api}).",
    saved: "Contraseña guardada. Aquí no hay página de acceso: entra con ella en la aplicación que usas, o por la API (POST {api}).",
    short: "La contraseña necesita al menos 8 caracteres.", offline: "Sin conexión. Inténtalo otra vez.",
  },
  pt: {
    invitation: ["Aceite o convite", "Escolha uma senha. Se já tem uma conta aqui, use a senha dela."],
    reset: ["Escolha uma nova senha", "Todas as suas sessões terminam. Entre de novo com a nova senha."],
    verify: ["Verifique seu e-mail", "Você se registrou aqui com este endereço. Se não foi você, feche esta página."],
    name: "Nome", password: "Senha", hint: "Pelo menos 8 caracteres.", send: "Salvar",
    incomplete: "O link não está completo. Abra-o de novo a partir do e-mail.",
    yes: "Verificar", verified: "Seu e-mail está verificado.",
    accepted: "Boas-vindas. Quem convidou você foi {who}. Aqui não há página de acesso: entre com seu e-mail e esta senha no aplicativo de quem convidou você, ou pela API (POST {api}).",
    saved: "Senha salva. Aqui não há página de acesso: entre com ela no aplicativo que você usa, ou pela API (POST {api}).",
    short: "A senha precisa de pelo menos 8 caracteres.", offline: "Sem conexão. Tente de novo.",
  },
};

const page = document.documentElement.dataset.page;
const wanted = navigator.languages.map((language) => language.slice(0, 2)).find((language) => language in TEXTS);
const language = wanted ?? "en";
const texts = TEXTS[language];
const at = (id) => document.getElementById(id);
const token = new URLSearchParams(location.hash.slice(1)).get("token");
history.replaceState(null, "", location.pathname);

document.documentElement.lang = language;
document.title = at("title").textContent = texts[page][0];
at("about").textContent = texts[page][1];
for (const element of document.querySelectorAll("[data-text]")) element.textContent = texts[element.dataset.text];
at("name-row").hidden = page !== "invitation";
// To verify an address is to press a button: what only opens links, as scanners of mail do, verifies nothing.
const asksPassword = page !== "verify";
at("password-row").hidden = at("hint").hidden = !asksPassword;
if (!asksPassword) at("send").textContent = texts.yes;

const PATHS = {
  invitation: "/api/auth/invitations/accept", reset: "/api/auth/reset-password", verify: "/api/auth/verify-email",
};
const DONE = { invitation: texts.accepted, reset: texts.saved, verify: texts.verified };

function tell(text, kind) {
  at("outcome").textContent = text;
  at("outcome").dataset.kind = kind;
}

async function send() {
  const body = { token };
  if (asksPassword) body.password = at("password").value;
  if (page === "invitation" && at("name").value.trim()) body.name = at("name").value;
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(PATHS[page], options);
  if (!answer.ok) throw (await answer.json()).detail;
  return page === "invitation" ? (await answer.json()).invited_by : "";
}

// Who invites chose their name: it is put in as text, and last, so that nothing in it is filled in again.
function done(who) {
  const text = DONE[page].replace("{api}", `${location.origin}/api/auth/login`);
  return text.replace("{who}", () => who);
}

at("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (asksPassword && [...at("password").value].length < 8) {
    tell(texts.short, "error");
    at("password").focus();
    return;
  }
  at("send").disabled = true;
  tell("", "");
  try {
    const who = await send();
    at("form").hidden = true;
    tell(done(who), "done");
  } catch (reason) {
    tell(typeof reason === "string" ? reason : texts.offline, "error");
  }
  at("send").disabled = false;
});

if (token) at("form").hidden = false;
else tell(texts.incomplete, "error");
