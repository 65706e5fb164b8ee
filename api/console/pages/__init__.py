"""The pages, a module each: ``ROUTES`` (its rows of the route table) and, if it has any, ``ACTIONS``.

A new module is found by itself. Its templates, its texts and its catalogues have its name.
"""

import pkgutil
from importlib import import_module

from api.console.desk import Desk
from api.console.visits import Page, PublicPage
from engine.operators.actions import Action

_MODULES = [import_module(f"{__name__}.{found.name}") for found in sorted(pkgutil.iter_modules(__path__))]
PAGES: tuple[Page | PublicPage, ...] = tuple(row for module in _MODULES for row in module.ROUTES)
ACTIONS: tuple[Action[Desk], ...] = tuple(action for module in _MODULES for action in getattr(module, "ACTIONS", ()))
