// Asks for a key.

const dialog = document.getElementById("key-dialog");
const input = document.getElementById("key");

/** The key that the user gives, or null. */
export function askForKey(reason) {
  document.getElementById("key-reason").textContent = reason && `The last one was refused: ${reason}`;
  input.value = "";
  dialog.showModal();
  return new Promise((resolve) => {
    let key = null;
    document.getElementById("key-form").onsubmit = (event) => {
      event.preventDefault();
      key = input.value.trim() || null;
      dialog.close();
    };
    document.getElementById("key-cancel").onclick = () => dialog.close();
    dialog.onclose = () => {
      input.value = "";
      resolve(key);
    };
  });
}
