'use strict';
{
    // A transition leaves the page of the run, so it asks if something there is not saved yet.
    const transitions = document.getElementById('run-transition');
    const page = document.getElementById(transitions?.dataset.page);
    const values = () => new URLSearchParams(new FormData(page)).toString();
    if (page) {
        let shown;
        // Later than the scripts that fill in the page.
        window.addEventListener('load', () => { shown = values(); });
        transitions.addEventListener('submit', event => {
            const isChanged = shown !== undefined && shown !== values();
            if (isChanged && !window.confirm(transitions.dataset.unsaved)) {
                event.preventDefault();
            }
        });
    }

    // The forms of filters are in the app's template of the list, which one of a host may not extend.
    for (const button of document.querySelectorAll('.run-filter [form]')) {
        if (!button.form) {
            const form = document.createElement('form');
            form.id = button.getAttribute('form');
            document.body.append(form);
            const names = [...form.elements, {name: 'p'}, {name: 'e'}].map(each => each.name);
            for (const [name, value] of new URLSearchParams(window.location.search)) {
                if (!names.includes(name)) {
                    const field = Object.assign(document.createElement('input'), {type: 'hidden', name, value});
                    form.append(field);
                }
            }
        }
    }

    // On a narrow screen each run of the list is a card, whose values need the columns' names.
    const list = document.querySelector('#result_list');
    if (list) {
        const names = [...list.tHead.rows[0].cells].map(cell => cell.innerText.trim());
        for (const row of list.tBodies[0].rows) {
            [...row.cells].forEach((cell, index) => { cell.dataset.label = names[index]; });
        }
    }
}
