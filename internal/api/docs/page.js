'use strict';

(function () {
  var dark = window.matchMedia('(prefers-color-scheme: dark)');
  function follow() {
    document.documentElement.classList.toggle('dark-mode', dark.matches);
  }
  dark.addEventListener('change', follow);
  follow();

  var reference = document.getElementById('reference');
  if (typeof window.SwaggerUIBundle !== 'function') {
    reference.querySelector('p').firstChild.data = 'Swagger UI is not built into this program. The document itself is at ';
    return;
  }
  reference.replaceChildren();
  window.SwaggerUIBundle({
    url: '/api/openapi.json',
    domNode: reference,
    deepLinking: true,
    docExpansion: 'list',
    filter: true,
    tryItOutEnabled: true,
    displayRequestDuration: true,
    defaultModelsExpandDepth: 0,
    validatorUrl: null,
    persistAuthorization: false,
  });
})();
